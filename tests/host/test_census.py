"""A host tells what it really has: of servers, of networks, and of what nobody asked for."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from msgspec import structs

from cloud import shell
from cloud.wire import decode, encode
from networks.host import outlets
from networks.host.links import Tap
from networks.host.nics import Surroundings, ensure_nics, remove_nics
from networks.spec import FirewallSpec, MemberSpec, NetworkSpec, PeerSpec, RuleSpec, SubnetSpec
from tests.documents import SPEC
from tests.host.rootless import NIC as USER_NIC
from tests.host.rootless import RootlessWorld
from tests.host.world import World, until
from vms.drift.differences import differences
from vms.drift.spec import (
    HostInventory,
    InventoryRequest,
    Kind,
    StrayRemoval,
    StraySpec,
)
from vms.drift.wanted import NetworkState, ServerState, wanted
from vms.host import census, documents, inbox
from vms.host.surveyor import Surveyor
from vms.spec import PowerGoal, VmSpec

NIC = structs.replace(SPEC.nics[0], ipv6="2001:db8:a:7::/64")
PEER = "55555555-2222-3333-4444-555555555555"
STRAYS = ("tap-mine", "br-mine", "cu9-0", "cu7-5", "tap\N{SNOWMAN}", "cuzzzzzzzzzzz-0")


@pytest.fixture
def world(world: World) -> Iterator[World]:
    yield world
    for name in STRAYS:
        shell.run(["ip", "link", "del", name], timeout=5, ok=(0, 1))
    shell.run(["ip", "neigh", "flush", "proxy"], timeout=5, ok=(0, 1))
    remove_nics(["cu9-0"], (), world.host.surroundings)


def drift(world: World, *specs: VmSpec, network: NetworkSpec | None = None) -> list[str]:
    """How the host differs from these documents, all of which it once carried out."""
    seen = census.look(world.host, deep=True)
    assert seen.unseen == ()
    states = [ServerState(spec, spec.generation, 0) for spec in specs]
    told = [NetworkState(network.network_id, network)] if network else []
    must = wanted(states, told, seen, user_mode=not world.host.routes_networks)
    return [f"{one.direction} {one.thing.kind} {one.thing.name}" for one in differences(must, seen)]


def run(*command: str) -> None:
    shell.run(list(command), timeout=10)


def kill(world: World, spec: VmSpec) -> None:
    process = world.process(spec)
    assert process
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: world.process(spec) is None, "QEMU ended")


def test_a_server_that_runs_is_just_what_its_document_says(world: World) -> None:
    spec = world.spec(nics=(NIC,))
    assert world.ensure(spec).converged
    assert drift(world, spec) == []
    seen = census.look(world.host)
    (held,) = seen.servers
    assert (held.vm_id, held.uuid, held.generation, held.wanted) == (7, spec.uuid, 3, True)
    assert all(one.marked for one in seen.things if one.kind is Kind.TAP)


def test_each_thing_that_is_taken_from_it_is_missing_and_comes_back(world: World) -> None:
    spec = world.spec(nics=(NIC,))
    world.ensure(spec)
    run("nft", "delete", "table", "netdev", "cumulet_cu7-0")
    run("ip", "route", "del", "198.51.100.7/32")
    run("ip", "neigh", "del", "proxy", "2001:db8:a:7::1", "dev", "uplink")
    kill(world, spec)
    assert drift(world, spec) == [
        "missing address answer for 2001:db8:a:7::1",
        "missing address route 198.51.100.7/32 to cu7-0",
        f"missing process {spec.uuid}",
        "missing rules cu7-0",
    ]
    run("ip", "link", "del", "cu7-0")
    assert "missing tap cu7-0" in drift(world, spec)
    assert world.ensure(spec).converged
    assert drift(world, spec) == []


def test_an_interface_that_was_made_anew_under_a_running_guest_is_not_whole(world: World) -> None:
    """The guest hears nothing by it until its QEMU starts anew, whatever else looks right."""
    spec = world.spec(nics=(NIC,))
    world.ensure(spec)
    run("ip", "link", "del", "cu7-0")
    world.ensure(spec)
    assert drift(world, spec) == ["missing tap cu7-0"]
    world.ensure(structs.replace(spec, generation=4, power=PowerGoal.OFF))
    again = structs.replace(spec, generation=5)
    assert world.ensure(again).converged
    assert drift(world, again) == []


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(
            ("flush", "chain", "netdev", "cumulet_cu7-0", "says_ipv4"), id="anti-spoofing"
        ),
        pytest.param(("flush", "chain", "inet", "cumulet", "to_cu7-0"), id="firewall"),
    ],
)
def test_rules_that_somebody_took_away_are_missing_and_come_back(
    world: World, damage: tuple[str, ...]
) -> None:
    guarded = FirewallSpec((RuleSpec("in", "tcp", ("0.0.0.0/0",), (22, 22)),))
    spec = world.spec(nics=(structs.replace(NIC, firewall=guarded),))
    world.ensure(spec)
    assert drift(world, spec) == []
    run("nft", *damage)
    assert drift(world, spec) == ["missing rules cu7-0"]
    assert world.ensure(spec).converged
    assert drift(world, spec) == []


def test_what_nobody_asked_for_is_extra(world: World) -> None:
    spec = world.spec(power=PowerGoal.OFF)
    world.ensure(spec)
    run("ip", "tuntap", "add", "tap-mine", "mode", "tap")
    run("ip", "link", "add", "br-mine", "type", "bridge")
    run("ip", "neigh", "add", "proxy", "203.0.113.88", "dev", "uplink")
    (world.host.paths.vms / "backup of mine").mkdir()
    (world.host.paths.vms / "99").mkdir()
    (world.host.paths.vms / "99" / "disk-0.qcow2").touch()
    (world.host.paths.vm(7).state / "disk-3.qcow2").touch()
    assert drift(world, spec) == [
        "extra address answer for 203.0.113.88",
        "extra bridge br-mine",
        "extra directory 99",
        "extra directory backup of mine",
        "extra disk 7/disk-3",
        "extra disk 99/disk-0",
        "extra tap tap-mine",
    ]
    seen = {one.name: one for one in census.look(world.host).things}
    assert not any(seen[name].marked for name in ("tap-mine", "br-mine"))


def test_a_route_to_a_guest_that_nobody_asked_for_is_extra(world: World) -> None:
    spec = world.spec(nics=(NIC,))
    world.ensure(spec)
    run("ip", "route", "add", "203.0.113.99/32", "dev", "cu7-0")
    assert drift(world, spec) == ["extra address route 203.0.113.99/32 to cu7-0"]


def test_a_private_network_is_told_with_what_is_written_in_it(world: World) -> None:
    office = NetworkSpec(
        network_id=40,
        host_uuid=world.host.uuid,
        generation=1,
        vni=77,
        ip_range="10.0.0.0/16",
        tunnel_ip="100.64.0.1",
        port=51899,
        subnets=(SubnetSpec("10.0.1.0/24", "10.0.1.1"),),
        members=(MemberSpec("02:00:00:00:00:09", PEER, ("10.0.1.9",)),),
        peers=(PeerSpec(PEER, "A" * 43 + "=", "100.64.0.2"),),
    )
    assert world.tell(office).converged, world.network_reports
    assert drift(world, network=office) == []
    entry = ("02:00:00:00:00:09", "dev", "cv14")
    run("bridge", "fdb", "del", *entry, "dst", "100.64.0.2", "self")
    run("bridge", "fdb", "append", *entry, "dst", "100.64.0.7", "self")
    run("ip", "neigh", "del", "10.0.1.9", "dev", "cb14")
    assert drift(world, network=office) == [
        "missing fdb 02:00:00:00:00:09 to 100.64.0.2 in cv14",
        "missing neighbour 10.0.1.9 is 02:00:00:00:00:09 in cb14",
        "extra fdb 02:00:00:00:00:09 to 100.64.0.7 in cv14",
    ]
    assert world.tell(office).converged
    assert drift(world, network=office) == []


def test_a_stray_of_ours_goes_and_nothing_else_whatever_control_says(world: World) -> None:
    around, spec = world.host.surroundings, world.spec(nics=(NIC,))
    world.ensure(spec)
    ensure_nics([Tap("cu9-0", structs.replace(NIC, ipv4="198.51.100.9", ipv6=None), None)], around)
    run("ip", "tuntap", "add", "cu7-5", "mode", "tap")
    asked = [StraySpec("interface", name) for name in ("cu9-0", "cu7-0", "cu7-5")]
    asked += [StraySpec("answer", "198.51.100.9"), StraySpec("answer", "198.51.100.7")]
    inbox.remove_strays(world.host, StrayRemoval(world.host.uuid, tuple(asked)), lambda told: True)
    assert drift(world, spec) == ["extra tap cu7-5"]


def test_the_interface_of_another_host_in_the_same_namespace_is_not_told(world: World) -> None:
    ensure_nics([Tap("cu9-0", NIC, None)], Surroundings("uplink", host="another"))
    assert not [one for one in census.look(world.host).things if one.name == "cu9-0"]


def test_a_lost_disk_is_said_to_be_lost_and_no_empty_one_takes_its_place(world: World) -> None:
    spec = world.spec(power=PowerGoal.OFF)
    assert world.ensure(spec).converged
    disk = world.host.paths.vm(7).disk(0)
    kept = disk.read_bytes()
    disk.unlink()
    report = world.ensure(structs.replace(spec, generation=4, power=PowerGoal.RUNNING))
    assert report.failure
    assert (report.failure.code, report.failure.retryable) == ("disk_lost", False)
    assert not disk.exists()
    assert world.process(spec) is None
    disk.write_bytes(kept)
    assert world.ensure(structs.replace(spec, generation=5)).converged


def test_a_host_that_lost_all_of_a_server_makes_no_empty_one(world: World) -> None:
    """Control knows that it had disks."""
    report = world.ensure(world.spec(power=PowerGoal.OFF, provisioned=True))
    assert report.failure
    assert report.failure.code == "disk_lost"
    assert "missing disk 7/disk-0" in drift(world, world.spec(power=PowerGoal.OFF))


def test_numbers_of_inventories_grow_though_the_clock_is_set_back(world: World) -> None:
    first = census.look(world.host).seq
    world.host.paths.inventory_seq.write_text(str(first + 10**9))
    assert census.look(world.host).seq == first + 10**9 + 1


def test_an_order_for_another_machine_is_refused(world: World) -> None:
    with pytest.raises(documents.WrongHost):
        inbox.look(world.host, InventoryRequest(PEER), lambda told: True)


def test_whatever_strangers_call_their_things_the_inventory_can_be_told(world: World) -> None:
    for name in ("9" * 25, "0", "\N{SNOWMAN}\n", "x" * 250):
        (world.host.paths.vms / name).mkdir()
    run("ip", "tuntap", "add", "tap\N{SNOWMAN}", "mode", "tap")
    run("ip", "tuntap", "add", "cuzzzzzzzzzzz-0", "mode", "tap")
    seen = census.look(world.host)
    assert decode(encode(seen), HostInventory) == seen
    names = {one.name for one in seen.things if one.kind is Kind.DIRECTORY}
    assert {"9" * 25, "0", "\\u2603\\n"} <= names


def test_control_is_told_of_news_and_once_more_and_then_seldom(world: World) -> None:
    told: list[HostInventory] = []
    surveyor = Surveyor(world.host, lambda seen: told.append(seen) or True)  # type: ignore[func-returns-value]
    counts = []
    for _ in range(4):
        surveyor.sweep()
        counts.append(len(told))
    assert counts == [1, 2, 2, 2]
    run("ip", "tuntap", "add", "tap-mine", "mode", "tap")
    for _ in range(11):
        surveyor.sweep()
        counts.append(len(told))
    assert counts[4:] == [3, 4, *[4] * 9]
    surveyor.sweep()
    assert len(told) == 5
    assert [one.seq for one in told] == sorted({one.seq for one in told})


def test_the_monitor_tells_what_changed(world: World) -> None:
    with world.watched():
        until(lambda: world.inventories, "a first inventory", seconds=20)
    assert world.inventories[0].host_uuid == world.host.uuid


@pytest.mark.rootless
def test_a_host_without_privilege_tells_of_ways_outside_and_ports(rootless: RootlessWorld) -> None:
    spec = rootless.spec(nics=(USER_NIC,))
    assert rootless.ensure(spec).converged

    def differing() -> list[str]:
        seen = decode(rootless.call("census"), HostInventory)
        assert seen.unseen == ()
        must = wanted([ServerState(spec, spec.generation, 0)], [], seen, user_mode=True)
        return [
            f"{one.direction} {one.thing.kind} {one.thing.name}" for one in differences(must, seen)
        ]

    assert differing() == []
    outlet = outlets.find(rootless.host.paths.vm(7).outlet(0))
    assert outlet
    os.kill(outlet, signal.SIGKILL)
    until(lambda: outlets.find(rootless.host.paths.vm(7).outlet(0)) is None, "it ended")
    assert differing() == ["missing outlet 7-0", "missing port tcp 30007 to 22 of 7"]
    assert rootless.ensure(spec).converged
    assert differing() == []
    kill(rootless, spec)
    assert differing() == [f"missing process {spec.uuid}"]
