"""What a host says that it has, whatever a crash, a full disk or a stranger left in its way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from networks.host import processes
from networks.host.leftovers import Kind as LeftoverKind
from networks.host.leftovers import Leftover
from networks.spec import NetworkRemoval
from tests.documents import HOST_UUID, SPEC, VM_UUID
from tests.unit.hosts import a_host
from tests.unit.test_private_plan import NETWORK
from vms.drift.spec import HeldNetwork, HostInventory, InventoryRequest, Kind
from vms.host import census, monitor, netstore, store, surveyor, trim
from vms.host.host import Host
from vms.host.leftovers import unserved
from vms.host.outbox import BROKER
from vms.host.surveyor import Surveyor

STRANGE = ("\N{SUPERSCRIPT TWO}", "007", "0", "9" * 5000, "notes")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(Host, "routes_networks", False)
    monkeypatch.setattr(processes, "running", lambda _: {})
    return a_host(tmp_path)


def named(seen: HostInventory, kind: Kind) -> list[str]:
    return [thing.name for thing in seen.things if thing.kind is kind]


@pytest.mark.parametrize("content", [b"", b"17\n4", b"\xff", b"x" * 100])
def test_the_number_of_the_last_one_may_be_damaged(host: Host, content: bytes) -> None:
    before = census.look(host).seq
    host.paths.inventory_seq.write_bytes(content)
    assert census.look(host).seq >= before


def test_its_number_grows_even_if_the_clock_was_set_back(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = census.look(host).seq
    monkeypatch.setattr("vms.host.census.time.time", lambda: 5.0)
    assert census.look(host).seq == before + 1


def test_names_that_nobody_of_ours_gave_are_no_numbers(host: Host) -> None:
    for name in STRANGE[:3]:
        for directory in (host.paths.vms, host.paths.gateways):
            (directory / name).mkdir()
        (host.paths.outlets / f"{name}-0").mkdir()
    (host.paths.outlets / "7-\N{SUPERSCRIPT TWO}").mkdir()
    seen = census.look(host)
    assert seen.unseen == ()
    assert named(seen, Kind.DIRECTORY) == ["0", "007", r"\xb2"]
    assert named(seen, Kind.OUTLET) == ["0-0", "007-0", r"7-\xb2", r"\xb2-0"]
    assert store.vm_ids(host) == []


@pytest.mark.parametrize("name", STRANGE)
def test_a_program_of_any_user_does_not_end_the_look(
    host: Host, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("-pidfile", f"{host.paths.run}/{name}/pid", "-uuid", VM_UUID)
    monkeypatch.setattr(processes, "running", lambda _: {1: words})
    (found,) = (one for one in census.look(host).things if one.kind is Kind.PROCESS)
    assert (found.uuid, found.server) == (VM_UUID, None)


def test_a_damaged_document_of_a_network_does_not_hide_the_rest(host: Host) -> None:
    store.accept(host, SPEC)
    netstore.accept(host.paths, NETWORK)
    host.paths.network(NETWORK.network_id).write_text("{")
    seen = census.look(host)
    assert [one.vm_id for one in seen.servers] == [7]
    assert seen.networks == ()


class TestNetworksThatAreGone:
    """More of them than an inventory has room for, and one that is here."""

    @pytest.fixture(autouse=True)
    def _told(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(surveyor, "MOST_HELD", 3)
        netstore.accept(host.paths, NETWORK)
        for number in (1, 2, 3):
            gone = NetworkRemoval(number, HOST_UUID, generation=9)
            netstore.accept(host.paths, gone)
            netstore.settle(host.paths, number, 9)
            os.utime(host.paths.network_fence(number), (number, number))

    def told(self, host: Host, request: InventoryRequest) -> list[HeldNetwork]:
        sent: list[HostInventory] = []
        surveyor.tell(host, lambda seen: sent.append(seen) is None, request)
        return [*sent[0].networks]

    def test_are_in_no_inventory(self, host: Host) -> None:
        here = HeldNetwork(NETWORK.network_id, NETWORK.generation)
        assert [*census.look(host).networks] == [here]
        assert self.told(host, InventoryRequest(HOST_UUID)) == [here]

    def test_are_named_to_a_control_that_was_restored_the_last_first(self, host: Host) -> None:
        """It has to count on from what it told of them, or they could not come back."""
        assert self.told(host, InventoryRequest(HOST_UUID, question="now")) == [
            HeldNetwork(NETWORK.network_id, NETWORK.generation),
            HeldNetwork(3, 9, wanted=False),
            HeldNetwork(2, 9, wanted=False),
        ]


class TestWhatIsLeftOver:
    """Of a server whose directory was lost while its guest goes on."""

    FOUND = (
        Leftover(LeftoverKind.INTERFACE, "cu7-0", True),
        Leftover(LeftoverKind.RULES, "cu7-1", True),
        Leftover(LeftoverKind.PROXY, "198.51.100.7", True),
        Leftover(LeftoverKind.INTERFACE, "cu8-0", True),
    )

    def running(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        words = ("-pidfile", f"{host.paths.vm(7).pid}", "-uuid", VM_UUID)
        monkeypatch.setattr(processes, "running", lambda _: {1: words})

    def test_is_not_taken_from_the_guest(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.running(host, monkeypatch)
        assert [one.name for one in unserved(host, self.FOUND)] == ["cu8-0"]

    def test_goes_if_there_is_no_guest(self, host: Host) -> None:
        assert unserved(host, self.FOUND) == [*self.FOUND]

    def test_goes_if_a_document_says_what_the_guest_has(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.running(host, monkeypatch)
        store.accept(host, SPEC)
        assert unserved(host, self.FOUND) == [*self.FOUND]


def test_a_monitor_goes_on_once_its_disk_is_back(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = host.paths.vms.with_name("away")
    told: list[HostInventory] = []
    monkeypatch.setattr(monitor, "SWEEP_SECONDS", 0.01)
    monkeypatch.setattr("vms.host.bridging.prepare", lambda _: None)

    def tell(inventory: HostInventory) -> bool:
        told.append(inventory)
        return True

    outbox = replace(BROKER, inventory=tell)

    async def sweep() -> None:
        task = asyncio.create_task(monitor.Monitor(host, outbox)._sweep())
        await until(lambda: told)
        host.paths.vms.rename(away)
        await asyncio.sleep(0.1)
        assert not task.done()
        away.rename(host.paths.vms)
        (host.paths.vms / "news").mkdir()
        await until(lambda: named(told[-1], Kind.DIRECTORY) == ["news"])
        task.cancel()

    async def until(met: Callable[[], object]) -> None:
        while not met():
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(sweep(), 10))


def test_no_log_of_the_host_grows_for_ever(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vms.host.bridging.prepare", lambda _: None)
    paths = host.paths
    logs = (paths.fetch_log, paths.tunnel_log, paths.outlet_log, paths.cable_log("calling-5"))
    for path in logs:
        path.write_bytes(b"x" * (trim.MAX_BYTES + 1))
    outbox = replace(BROKER, inventory=lambda _: True)
    asyncio.run(monitor.Monitor(host, outbox)._sweep_once(tell_all=False))
    assert {path.stat().st_size for path in logs} == {trim.KEPT_BYTES}


class TestASurveyor:
    @pytest.fixture
    def told(self) -> list[HostInventory]:
        return []

    def sweeps(self, host: Host, told: list[HostInventory], answers: Iterator[bool]) -> Surveyor:
        def tell(inventory: HostInventory) -> bool:
            told.append(inventory)
            return next(answers)

        return Surveyor(host, tell)

    def test_tells_what_is_new_twice_and_then_is_quiet(
        self, host: Host, told: list[HostInventory]
    ) -> None:
        surveyor = self.sweeps(host, told, iter([True] * 9))
        for _ in range(5):
            surveyor.sweep()
        assert len(told) == 2

    def test_tells_again_at_once_what_the_broker_did_not_take(
        self, host: Host, told: list[HostInventory]
    ) -> None:
        """Also the second time: a difference counts only if it was seen twice."""
        surveyor = self.sweeps(host, told, iter([False, True, False, True, True, True]))
        for _ in range(8):
            surveyor.sweep()
        assert len(told) == 5
