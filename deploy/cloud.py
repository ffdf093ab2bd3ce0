"""A whole cloud on this machine: services, control plane and hosts, in the order they need.

`deploy.start` builds one for a person, the tests' fixtures one for a session. Every step makes
sure that something is so, and is safe to repeat at any time: after a change of the code, after
a killed run, after a reboot.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from deploy import accounts, broker, control, postgres, release, sites
from deploy.hosts import DESK, LAB, CloudHost, cloud_hosts
from deploy.lab import Lab
from deploy.state import Instance
from deploy.supervise import Supervisor

LOCATIONS = {LAB: "Lab on this machine", DESK: "Hosts without root on this machine"}
_SECONDS = 90.0  # for a service to answer; a slow machine needs 15


class Cloud:
    """One instance's processes. Call the steps in the order they stand here."""

    def __init__(
        self, instance: Instance, *, hosts: int = 2, rootless: int = 0, durable: bool = True
    ) -> None:
        self.instance = instance
        self.site = sites.of(instance)
        self.lab = Lab(instance.id)
        self.supervisor = Supervisor(instance)
        self.hosts: Sequence[CloudHost] = cloud_hosts(instance, hosts, rootless)
        self._durable = durable
        self.release = Path()

    def prepare(self) -> None:
        """Users, directories, the copy of the code, supervisord."""
        accounts.ensure_users()
        for path in (self.instance.data, self.instance.data / "hosts", self.instance.run):
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        control.prepare(self.instance)
        self.release = release.ensure(self.instance)
        self.supervisor.ensure(sys.executable)

    def start_postgres(self) -> None:
        if self.supervisor.states().get(postgres.NAME) != "RUNNING":
            postgres.prepare(self.instance)
        self.supervisor.apply([postgres.program(self.instance, durable=self._durable)])
        self.supervisor.start(postgres.NAME)
        self.supervisor.wait(postgres.NAME, lambda: postgres.ready(self.instance), seconds=_SECONDS)

    def start_broker(self) -> None:
        """Start RabbitMQ without waiting: it takes its time, others can use it."""
        if self.supervisor.states().get(broker.NAME) not in ("RUNNING", "STARTING"):
            broker.end_orphan(self.instance)
        broker.prepare(self.instance)
        self.supervisor.apply(broker.programs(self.instance))
        self.supervisor.start(broker.EPMD, broker.NAME)

    def wait_for_broker(self) -> None:
        self.supervisor.wait(broker.NAME, lambda: broker.ready(self.instance), seconds=_SECONDS)

    def start_lab(self) -> None:
        """What hosts stand on: in a lab the namespaces, and control's leg in their fabric."""
        rootless = sum(host.rootless for host in self.hosts)
        self.site.ensure(len(self.hosts) - rootless, rootless)
        programs = self.site.programs()
        self.supervisor.apply(programs)
        self.supervisor.start(*(program.name for program in programs))

    def migrate(self) -> None:
        """The database's schema and what a new cloud offers; needs no broker.

        Where the schema changes, control's programs of before end first: they would read and write
        tables that they do not know. Hosts and guests go on meanwhile.
        """
        if self._schema_changes():
            self.supervisor.stop(control.WEB, control.BEAT, control.WORKER)
        commands = [
            ["migrate", "--verbosity", "0"],
            ["collectstatic", "--noinput", "--verbosity", "0"],
            ["catalogue"],
            *(["location_add", name, "--description", LOCATIONS[name]] for name in self._locations),
            ["admin_add", control.ADMIN],
        ]
        for pool in self.site.pools:
            excluded = ["--exclude", *pool.reserved]
            commands.append(["pool_add", pool.name, pool.cidr, "--location", LAB, *excluded])
        self.manage(commands)

    def start_control(self) -> None:
        """Queues, web, worker, beat and Flower; needs the broker."""
        commands = [["broker_setup"]]
        for host in self.hosts:
            bundle = str(control.bundle(self.instance, host.name))
            place = ["--location", host.location, "--bundle", bundle]
            commands.append(["host_add", host.name, *place])
        self.manage(commands)
        programs = control.programs(self.instance, self.release)
        self.supervisor.apply(programs)
        self.supervisor.start(*(program.name for program in programs))

    def start_hosts(self) -> None:
        """Agents and monitors; needs join bundles and the lab."""
        for host in self.hosts:
            host.prepare()
        programs = [program for host in self.hosts for program in host.programs(self.release)]
        self.supervisor.apply(programs)
        self.supervisor.start(*(program.name for program in programs))

    def wait_until_up(self) -> None:
        """Until everything that a person can look at answers."""
        wait, instance = self.supervisor.wait, self.instance
        for program in self.site.programs():
            wait(program.name, self.site.ready, seconds=_SECONDS)
        wait(control.WEB, self._web_ready, seconds=_SECONDS)
        wait(control.FLOWER, lambda: control.flower_ready(instance), seconds=_SECONDS)
        release.settle(self.release)

    def wait_for_hosts(self, token: str) -> None:
        """Until control has heard of every host."""
        headers = {"Authorization": f"Bearer {token}"}

        def joined() -> bool:
            answer = httpx.get(f"{self.instance.api_url}/hosts", headers=headers, timeout=5)
            answer.raise_for_status()
            up = {host["name"] for host in answer.json()["hosts"] if host["status"] == "up"}
            return up >= {host.name for host in self.hosts}

        self.supervisor.wait(self.hosts[-1].monitor, joined, seconds=_SECONDS)

    def _web_ready(self) -> bool:
        """Another cloud that took the port first would answer as well."""
        ours = self.supervisor.listens(control.WEB, self.instance.ports.web)
        return ours and control.web_ready(self.instance)

    def _schema_changes(self) -> bool:
        """Whether programs of an earlier release run, and this one has migrations of its own."""
        if self.supervisor.states().get(control.WORKER) not in ("STARTING", "RUNNING"):
            return False
        if release.is_only(self.release):
            return False
        (plan,) = self.manage([["showmigrations", "--plan"]])
        return "[ ]" in plan

    @property
    def _locations(self) -> list[str]:
        """A location is there as soon as a host of it is."""
        used = {host.location for host in self.hosts}
        return [name for name in LOCATIONS if name in used]

    def manage(self, commands: Sequence[Sequence[str]]) -> list[str]:
        """Run management commands in order; answers what each printed."""
        return control.manage(self.instance, self.release, commands)
