"""One fault from its beginning to the leak check: load, fault, recovery, nothing left."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import psycopg2
from hcloud.servers import BoundServer

from deploy import control
from deploy.benchmarks.fault_records import Fault
from deploy.hosts import LabHost
from tests import records
from tests.e2e.faults import inventory, leaks
from tests.e2e.faults.load import Load, Tally
from tests.e2e.world import World, until

RECOVERY_SECONDS = 150.0
# A monitor takes away what is left over when it sees it the second time, every 30 s.
CLEAN_SECONDS = 75.0
# The first server of the load, on a machine that is busy with other things.
_WARM_SECONDS = 150.0


@dataclass
class Trial:
    """`residents`: a server for each host that runs through all faults; `image`: the load's."""

    world: World
    residents: dict[str, BoundServer]
    image: str
    tally: Tally = field(default_factory=Tally)

    @contextmanager
    def under_load(self, fault: str, *, failures: Collection[str] = ()) -> Iterator[Load]:
        """Inside, something fails and is over at the end; all must be well soon after.

        `failures`: the codes of typed failures that users may meet because of it.
        """
        load = self._load()
        load.start()
        try:
            began = time.monotonic()
            until(lambda: load.whole_since(began), "load goes", seconds=_WARM_SECONDS)
            yield load
            recovery = self._recover(load)
        finally:
            load.stop()
            self.tally = load.wait()
        assert not self.tally.defects, "\n".join(self.tally.defects)
        unexpected = {code: n for code, n in self.tally.failures.items() if code not in failures}
        assert not unexpected, f"users met {unexpected}"
        self.check_for_leaks()
        records.add(Fault(fault, round(recovery, 1), self.tally.record))

    def check_for_leaks(self) -> None:
        deadline = time.monotonic() + CLEAN_SECONDS
        while found := leaks.leaks(self.world.cloud):
            assert time.monotonic() < deadline, "\n".join(found)
            time.sleep(1)

    def host(self, name: str) -> LabHost:
        (host,) = [host for host in self.world.cloud.hosts if host.name == name]
        assert isinstance(host, LabHost)
        return host

    def qemu(self, host: str) -> psutil.Process:
        """The process of the host's resident."""
        uuids = {s.id: s.uuid for s in inventory.read(self.world.cloud.instance).servers}
        uuid = uuids[self.residents[host].id]
        (process,) = self.world.guests_with(uuid)
        return process

    def find_qemu(self, host: str) -> psutil.Process | None:
        try:
            return self.qemu(host)
        except (ValueError, psutil.NoSuchProcess):
            return None

    def qemus(self) -> dict[str, int]:
        """The process of each resident."""
        return {host: self.qemu(host).pid for host in self.residents}

    def _load(self) -> Load:
        instance = self.world.cloud.instance
        token = (instance.state / "token").read_text().strip()
        return Load(instance.api_url, token, self.image)

    def _recover(self, load: Load) -> float:
        """Seconds until what the fault met is over and what was asked for since goes as usual."""
        over = time.monotonic()

        def recovered() -> bool:
            return (
                not load.open_since_before(over)
                and load.whole_since(over) > 0
                and not self._out_of_order()
            )

        try:
            return until(recovered, "the cloud is in order", seconds=RECOVERY_SECONDS)
        except AssertionError as error:
            raise AssertionError(
                f"{error}; open lives: {load.open_since_before(over)},"
                f" whole since: {load.whole_since(over)}, {self._out_of_order()},"
                f" {load.defects}"
            ) from error

    def _out_of_order(self) -> list[str]:
        """Residents that are not as they should be, and programs that do not run."""
        cloud = self.world.cloud
        states = cloud.supervisor.states()
        found = [f"{name} is {state}" for name, state in states.items() if state != "RUNNING"]
        if not control.web_ready(cloud.instance):
            return [*found, "the API does not answer"]
        try:
            servers = inventory.read(cloud.instance).servers
        except psycopg2.OperationalError as error:
            return [*found, str(error)]
        residents = {server.id for server in self.residents.values()}
        here = [server for server in servers if server.id in residents]
        if len(here) != len(residents):
            found.append("a resident is gone")
        return found + [str(server) for server in here if not server.in_order]
