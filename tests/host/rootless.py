"""A host under test without any privilege: its agent runs as an ordinary user, in a process apart.

To tests it looks like any other `World`; what they ask of it, that process does.
"""

from __future__ import annotations

import itertools
import json
import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloud.hostconfig import HostConfig
from cloud.wire import decode, encode
from deploy import accounts, lab
from deploy.lab import Lab
from networks.spec import (
    USER_ADDRESS,
    USER_GATEWAY,
    USER_RESOLVER,
    ForwardSpec,
    NetworkRemoval,
    NetworkReport,
    NetworkSpec,
    NicSpec,
)
from tests.documents import a_removal
from tests.host.world import World, until
from vms.drift.spec import HostInventory
from vms.host.host import Host
from vms.host.paths import HostPaths
from vms.spec import (
    HostReport,
    ImageReport,
    ImageSpec,
    UnchangedReport,
    UsageReport,
    VmReport,
    VmSpec,
)

ROOT = Path(__file__).resolve().parent.parent.parent
REPORTS = {
    "vm": VmReport,
    "unchanged": UnchangedReport,
    "host": HostReport,
    "image": ImageReport,
    "usage": UsageReport,
    "network": NetworkReport,
    "inventory": HostInventory,
}
# Of the broker that a rootless host is told of: outside, and in no network that hosts are in.
BROKER = "203.0.113.250"
NIC = NicSpec(
    nic_id=5,
    index=0,
    mac="02:00:00:00:00:07",
    mode="user",
    ipv4=USER_ADDRESS,
    prefix4=24,
    gateway=USER_GATEWAY,
    dns=(USER_RESOLVER,),
    forwards=(ForwardSpec("tcp", 30007, 22),),
)


class Refused(Exception):
    """What the agent was asked to do ended in an exception there."""


@dataclass
class RootlessWorld(World):
    """`settings`: further CUMULET_HOST_* variables."""

    settings: dict[str, str] = field(default_factory=dict)
    _agent: subprocess.Popen[str] | None = None
    _calls: dict[int, Future[Any]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _uuid: Future[str] = field(default_factory=Future)
    _writing: Any = field(default_factory=threading.Lock)
    _hearing: threading.Thread = field(default_factory=threading.Thread)

    @property
    def agent_pid(self) -> int:
        assert self._agent
        return self._agent.pid

    @property
    def guests_uid(self) -> int:
        return pwd.getpwnam(accounts.ROOTLESS).pw_uid

    def start_agent(self) -> None:
        """As its user would, in the host's namespace; what guests have outlives it."""
        user = ("setpriv", "--reuid", accounts.ROOTLESS, "--regid", accounts.ROOTLESS)
        without = ("--init-groups", "--bounding-set=-all", "--inh-caps=-all")
        config = self.host.config
        self._uuid = Future()
        self._agent = subprocess.Popen(
            [
                *(*self.lab.enter(self.namespace), *user, *without),
                *(sys.executable, "-m", "tests.host.rootless_agent"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "HOME": str(config.state_dir.parent),
                "CUMULET_BUNDLE": str(config.state_dir.parent / "bundle.json"),
                "CUMULET_HOST_UPLINK": lab.UPLINK,
                "CUMULET_HOST_STATE": str(config.state_dir),
                "CUMULET_HOST_RUN": str(config.run_dir),
                "CUMULET_HOST_METRICS": "off",
                **self.settings,
            },
        )
        self._hearing = threading.Thread(target=self._hear_agent, args=(self._agent,))
        self._hearing.start()
        self.host = _as_opened(config, self._uuid.result(30))

    def stop_agent(self) -> None:
        """Guests and all that they need go on."""
        assert self._agent
        assert self._agent.stdin
        self._agent.stdin.close()
        self._agent.wait(30)
        self._hearing.join()

    def restart_agent(self) -> None:
        assert self._agent
        self._agent.kill()
        self.stop_agent()
        self.start_agent()

    def spec(self, **changes: Any) -> VmSpec:
        return super().spec(**{"nics": (NIC,), **changes})

    def ensure(self, spec: VmSpec) -> VmReport:
        self.call("ensure", encode(spec))
        until(lambda: self.reports, "a report")
        return self.reports[-1]

    def remove(self, spec: VmSpec, **changes: Any) -> VmReport:
        self.call("remove", encode(a_removal(spec, **changes)))
        return self.reports[-1]

    def tell(self, document: NetworkSpec | NetworkRemoval) -> NetworkReport:
        self.call("network", encode(document))
        return self.network_reports[-1]

    def facts(self) -> HostReport:
        return decode(self.call("facts"), HostReport)

    def look_again(self, spec: VmSpec) -> VmReport:
        """A new agent finds the guest."""
        self.restart_agent()
        return self.ensure(spec)

    def ssh(self, spec: VmSpec, command: str) -> Any:
        """By way of the port that is forwarded to it."""
        forward = next(one for one in spec.nics[0].forwards if one.guest_port == 22)
        return self.ssh_at(lab.uplink_address(self.number), command, port=forward.port)

    @contextmanager
    def watched(self) -> Iterator[None]:
        self.call("watch")
        until(self.host.paths.bell.exists, "the monitor listens")
        try:
            yield
        finally:
            self.call("unwatch")

    def call(self, name: str, *arguments: Any) -> Any:
        number = next(self._numbers)
        self._calls[number] = returned = Future()
        self._write(call=number, name=name, arguments=arguments)
        return returned.result(120)

    def _write(self, **message: Any) -> None:
        assert self._agent
        assert self._agent.stdin
        with self._writing:
            self._agent.stdin.write(json.dumps(message) + "\n")
            self._agent.stdin.flush()

    def _hear_agent(self, agent: subprocess.Popen[str]) -> None:
        assert agent.stdout
        for line in agent.stdout:
            self._heed(json.loads(line))
        agent.stdout.close()
        for call in self._calls.values():
            call.set_exception(Refused("the agent has ended"))
        self._calls.clear()

    def _heed(self, message: dict[str, Any]) -> None:
        takers = {
            "vm": self.send,
            "unchanged": self._unchanged,
            "host": self._beat,
            "image": self._image,
            "usage": self._usage,
            "network": self.hear,
            "inventory": self._count,
        }
        if "uuid" in message:
            self._uuid.set_result(message["uuid"])
        elif "report" in message:
            kind = message["kind"]
            taken = takers[kind](decode(message["document"], REPORTS[kind]))  # type: ignore[operator]
            self._write(answer=message["report"], value=taken)
        elif "error" in message:
            self._calls.pop(message["returned"]).set_exception(Refused(message["error"]))
        else:
            self._calls.pop(message["returned"]).set_result(message["value"])


def rootless_world(
    home: Path, made: Lab, image: ImageSpec, key: Path, number: int
) -> RootlessWorld:
    """Not started yet. `home`: a new directory for the user."""
    accounts.own(home, accounts.ROOTLESS, 0o711)
    broker = f"amqp://nobody:secret@{BROKER}:5672/none"
    bundle = {"version": 1, "host": f"h{number}", "broker_url": broker}
    accounts.write_for(home / "bundle.json", json.dumps(bundle), accounts.ROOTLESS)
    config = HostConfig(f"h{number}", broker, home / "state", home / "run", lab.UPLINK)
    return RootlessWorld(_as_opened(config, "-"), made, image, key, number=number)


def _as_opened(config: HostConfig, uuid: str) -> Host:
    """As its own agent sees it: nobody else's user is there for the guests."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Host(config, HostPaths(config.state_dir, config.run_dir), uuid, boot_id, None)
