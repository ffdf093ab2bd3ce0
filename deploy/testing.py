"""Real services for one test session, under its own names and ports.

tests/conftest.py holds one `Services`. Each session has its own state directory below
.cumulet/tests, locked while it lives; a directory that nobody has locked belongs to a session
that was killed, and is cleared with everything that was started for it.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from cloud import shell
from deploy import broker, control, postgres, state, stop
from deploy.cloud import Cloud
from deploy.ports import choose_ports

_HOSTS, _ROOTLESS = 3, 2
# No guest of the tests works for long, so cores can be promised many times.
_OVERCOMMIT = "64"
# Users of the tests ask more often than those of a project may.
_REQUESTS = "360000"


class Services:
    """Starts what is asked for, once. `close` takes everything away."""

    def __init__(self) -> None:
        self._home = _sessions() / f"session-{os.getpid()}"
        ports = choose_ports(web=0, flower=0)
        identity = state.instance_id(self._home)
        self.instance = state.Instance(identity, self._home, ports, state.Passwords())
        self._cloud = Cloud(self.instance, hosts=_HOSTS, durable=False)
        self._rootless = Cloud(self.instance, hosts=_HOSTS, rootless=_ROOTLESS, durable=False)
        self._lock = ExitStack()
        self._running: set[str] = set()

    def environment(self) -> dict[str, str]:
        """What cloud/settings.py reads; the servers it names start later."""
        return {**control.environment(self.instance), "CUMULET_LOG_FORMAT": "text"}

    def open(self) -> None:
        """Claim a directory."""
        self._lock.enter_context(state.locked(self._home))
        self.instance.save()

    def close(self) -> None:
        if self._running:
            _remove(self.instance)
        self._lock.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def postgres(self) -> str:
        if self._once("postgres"):
            self._prepare()
            self._cloud.start_postgres()
        return postgres.url(self.instance)

    def rabbitmq(self) -> str:
        if self._once("rabbitmq"):
            self.postgres()
            self._cloud.start_broker()
            self._cloud.wait_for_broker()
        return broker.url(self.instance)

    def cloud(self) -> Cloud:
        """The whole cloud with its lab hosts."""
        if self._once("cloud"):
            os.environ["CUMULET_CPU_OVERCOMMIT"] = _OVERCOMMIT
            os.environ["CUMULET_API_REQUESTS_PER_HOUR"] = _REQUESTS
            self.postgres()
            self.rabbitmq()
            _bring_up(self._cloud)
        return self._cloud

    def rootless_cloud(self) -> Cloud:
        """The same cloud, with hosts in user mode beside the others from now on."""
        if self._once("rootless"):
            self.cloud()
            self._rootless.prepare()
            _bring_up(self._rootless)
        return self._rootless

    def _prepare(self) -> None:
        if self._once("supervisor"):
            self._cloud.prepare()

    def _once(self, what: str) -> bool:
        if what in self._running:
            return False
        self._running.add(what)
        return True


def _sessions() -> Path:
    return state.default_state() / "tests"


def _bring_up(cloud: Cloud) -> None:
    cloud.start_lab()
    cloud.migrate()
    cloud.start_control()
    cloud.start_hosts()
    cloud.wait_until_up()


def _remove(instance: state.Instance) -> None:
    """Everything of the instance, and disks that a test gave to its hosts."""
    stop.stop_all(instance)
    mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    for path in [Path(mount) for mount in mounts if Path(mount).is_relative_to(instance.data)]:
        shell.run(["umount", path], timeout=30)
    instance.remove_data()


def clear_leftovers() -> None:
    """Remove every session that nobody has locked any more; no other may start meanwhile."""
    for home in _sessions().glob("session-*"):
        try:
            with state.locked(home):
                left = state.load(home)
                if left is not None:
                    _remove(left)
        except state.Busy:
            continue
        shutil.rmtree(home, ignore_errors=True)
