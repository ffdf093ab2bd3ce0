"""What differs between the inventory and a host: exactly that, in both directions, and no more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cloud.wire import MalformedDocument, decode, encode
from networks.spec import ForwardSpec, MemberSpec, NetworkSpec, PeerSpec, SubnetSpec
from tests.documents import HOST_UUID, SPEC, VM_UUID, a_spec
from vms.drift import things
from vms.drift.differences import Direction, differences
from vms.drift.spec import HeldNetwork, HeldServer, HostInventory, Kind, StrayRemoval, Thing
from vms.drift.wanted import NetworkState, ServerState, Wanted, of_network, of_server, wanted
from vms.spec import PowerGoal

STATE = ServerState(SPEC, applied_generation=3, observed_seq=10)
HELD = HeldServer(7, VM_UUID, 3)
OFFICE = NetworkSpec(
    network_id=40,
    host_uuid=HOST_UUID,
    generation=2,
    vni=77,
    ip_range="10.0.0.0/16",
    tunnel_ip="100.64.0.1",
    subnets=(SubnetSpec("10.0.1.0/24", "10.0.1.1"),),
    members=(MemberSpec("02:00:00:00:00:09", "5" * 8 + VM_UUID[8:], ("10.0.1.9",)),),
    peers=(PeerSpec("5" * 8 + VM_UUID[8:], "A" * 43 + "=", "100.64.0.2"),),
)


def inventory(*found: Thing, **facts: Any) -> HostInventory:
    """All that the server of `SPEC` consists of, unless something else is given."""
    values = {"servers": (HELD,), "seq": 20, **facts}
    return HostInventory(host_uuid=HOST_UUID, boot_id="b", things=found, **values)


def whole() -> list[Thing]:
    return list(of_server(SPEC, user_mode=False))


def compared(
    *found: Thing, state: ServerState = STATE, network: NetworkState | None = None, **facts: Any
) -> list[str]:
    seen = inventory(*found, **facts)
    must = wanted([state], [network] if network else [], seen, user_mode=False)
    return [f"{one.direction} {one.thing.kind} {one.thing.name}" for one in differences(must, seen)]


def test_a_host_that_has_just_what_it_should_have_drifts_in_nothing() -> None:
    assert compared(*whole()) == []


def test_a_server_that_runs_consists_of_all_these() -> None:
    routed = a_spec(nics=(structs.replace(SPEC.nics[0], ipv6="2001:db8:a:7::/64"),))
    assert [f"{one.kind} {one.name}" for one in of_server(routed, user_mode=False)] == [
        f"server 7 {VM_UUID}",
        "disk 7/disk-0",
        f"process {VM_UUID}",
        "tap cu7-0",
        "rules cu7-0",
        "address route 198.51.100.7/32 to cu7-0",
        "address answer for 198.51.100.7",
        "address route 2001:db8:a:7::/64 to cu7-0",
        "address answer for 2001:db8:a:7::1",
    ]


def test_a_server_that_is_off_has_a_disk_and_nothing_that_runs() -> None:
    off = a_spec(power=PowerGoal.OFF)
    assert {one.kind for one in of_server(off, user_mode=False)} == {Kind.SERVER, Kind.DISK}


def test_a_server_behind_its_host_has_a_way_out_and_ports() -> None:
    user = structs.replace(SPEC.nics[0], mode="user", forwards=(ForwardSpec("tcp", 30000, 22),))
    found = list(of_server(a_spec(nics=(user,)), user_mode=True))
    assert [f"{one.kind} {one.name}" for one in found[3:]] == [
        "outlet 7-0",
        "port tcp 30000 to 22 of 7",
    ]


def test_a_network_consists_of_bridge_tunnel_and_what_is_written_in_them() -> None:
    here = [("02:00:00:00:00:07", "cu7-1")]
    assert sorted(f"{one.kind} {one.name}" for one in of_network(OFFICE, here)) == [
        "bridge cb14",
        "fdb 00:00:00:00:00:00 to 100.64.0.2 in cv14",
        "fdb 02:00:00:00:00:07 at cu7-1 in cb14",
        "fdb 02:00:00:00:00:09 at cv14 in cb14",
        "fdb 02:00:00:00:00:09 to 100.64.0.2 in cv14",
        "fdb fa:00:00:00:00:28 at cg14 in cb14",
        "neighbour 10.0.1.1 is fa:00:00:00:00:28 in cb14",
        "neighbour 10.0.1.9 is 02:00:00:00:00:09 in cb14",
        "tunnel cv14",
    ]


@pytest.mark.parametrize("lost", whole(), ids=lambda thing: thing.name)
def test_each_thing_that_is_not_there_is_missing(lost: Thing) -> None:
    rest = [thing for thing in whole() if thing != lost]
    assert compared(*rest) == [f"missing {lost.kind} {lost.name}"]


def test_what_is_there_and_not_whole_is_missing_with_what_it_lacks() -> None:
    broken = structs.replace(Thing(Kind.RULES, "cu7-0", server=7), flaw="12 of 14 rules")
    seen = inventory(*(one for one in whole() if one.kind is not Kind.RULES), broken)
    (found,) = differences(wanted([STATE], [], seen, user_mode=False), seen)
    assert (found.direction, found.detail) == (Direction.MISSING, "12 of 14 rules")


def test_what_nobody_asked_for_is_extra() -> None:
    stray = Thing(Kind.TAP, "tap-mine")
    other = things.server(9, HOST_UUID)
    assert compared(*whole(), stray, other) == [
        f"extra server 9 {HOST_UUID}",
        "extra tap tap-mine",
    ]


def test_the_host_lost_all_of_a_server_and_all_of_it_is_missing() -> None:
    assert len(compared(servers=())) == len(whole())


def test_a_server_that_was_reported_on_after_the_look_began_is_not_missing() -> None:
    """It may have come to its host meanwhile."""
    newer = ServerState(SPEC, applied_generation=3, observed_seq=21)
    assert compared(servers=(), state=newer) == []


@pytest.mark.parametrize(
    ("state", "held"),
    [
        pytest.param(ServerState(SPEC, 2, 10), HELD, id="not carried out yet"),
        pytest.param(STATE, HeldServer(7, VM_UUID, 2), id="the document is on its way"),
        pytest.param(ServerState(SPEC, 3, 10, deleting=True), HELD, id="it is being deleted"),
        pytest.param(STATE, HeldServer(7, VM_UUID, 3, wanted=False), id="its host removes it"),
    ],
)
def test_work_under_way_is_no_drift(state: ServerState, held: HeldServer) -> None:
    """Neither what is not made yet, nor what is not gone yet."""
    half = [things.process(7, VM_UUID), Thing(Kind.TAP, "cu7-3", server=7)]
    assert compared(*half, state=state, servers=(held,)) == []


def test_what_a_host_removes_by_its_own_document_is_no_drift() -> None:
    """The inventory has forgotten the server a moment before the host looked."""
    going = HeldServer(9, HOST_UUID, 5, wanted=False)
    assert compared(*whole(), things.process(9, HOST_UUID), servers=(HELD, going)) == []


def test_another_server_under_the_number_of_ours_is_extra_and_ours_is_missing() -> None:
    other = HeldServer(7, HOST_UUID, 3)
    found = compared(things.server(7, HOST_UUID), servers=(other,))
    assert f"extra server 7 {HOST_UUID}" in found
    assert f"missing server 7 {VM_UUID}" in found


def test_a_document_newer_than_the_inventory_is_told() -> None:
    """An older backup of the inventory was restored."""
    ahead = HeldServer(7, VM_UUID, 9)
    assert compared(*whole(), servers=(ahead,)) == [f"extra server 7 {VM_UUID}"]


def test_a_network_that_was_not_carried_out_is_not_judged() -> None:
    stray = Thing(Kind.FDB, "02:00:00:00:00:99 to 100.64.0.9 in cv14", network=40)
    assert compared(*whole(), stray, network=NetworkState(40, None)) == []
    told = (HeldNetwork(40, 1),)
    assert compared(*whole(), stray, network=NetworkState(40, OFFICE), networks=told) == []


def test_an_entry_too_many_and_one_too_few_are_told_of_a_network() -> None:
    there = [one for one in of_network(OFFICE, []) if "02:00:00:00:00:09 to" not in one.name]
    stray = Thing(Kind.FDB, "02:00:00:00:00:09 to 100.64.0.9 in cv14", network=40)
    network = NetworkState(40, OFFICE)
    assert compared(*whole(), *there, stray, network=network, networks=(HeldNetwork(40, 2),)) == [
        "missing fdb 02:00:00:00:00:09 to 100.64.0.2 in cv14",
        "extra fdb 02:00:00:00:00:09 to 100.64.0.9 in cv14",
    ]


@pytest.mark.parametrize("kind", list(Kind))
def test_nothing_follows_from_what_was_not_seen(kind: Kind) -> None:
    rest = [one for one in whole() if one.kind is not kind]
    stray = Thing(kind, "somebody's")
    assert compared(*rest, stray, unseen=(kind,)) == []


def test_of_a_kind_that_was_cut_nothing_is_missing_and_what_was_told_may_be_extra() -> None:
    rest = [one for one in whole() if one.kind is not Kind.TAP]
    assert compared(*rest, Thing(Kind.TAP, "tap-1"), cut={Kind.TAP: 5}) == ["extra tap tap-1"]


NAMES = st.sampled_from(["a", "b", "c", "d"])
THINGS = st.builds(Thing, st.sampled_from([Kind.TAP, Kind.FDB]), NAMES, server=st.none())
SETS = st.lists(THINGS, unique_by=things.key)


@given(SETS, SETS)
def test_differences_are_just_what_is_on_one_side_only(
    must: list[Thing], there: list[Thing]
) -> None:
    seen = inventory(*there)
    found = differences(Wanted({things.key(one): one for one in must}), seen)
    lacking = {things.key(one.thing) for one in found if one.direction is Direction.MISSING}
    beyond = {things.key(one.thing) for one in found if one.direction is Direction.EXTRA}
    expected, actual = {*map(things.key, must)}, {*map(things.key, there)}
    assert lacking == expected - actual
    assert beyond == actual - expected
    assert len(found) == len(lacking) + len(beyond)


@given(SETS, SETS, st.sets(st.sampled_from([Kind.TAP, Kind.FDB])))
def test_the_other_way_round_the_same_differs(
    must: list[Thing], there: list[Thing], unseen: set[Kind]
) -> None:
    def judged(wanted_: list[Thing], seen: list[Thing]) -> set[tuple[Direction, Any, str]]:
        report = inventory(*seen, unseen=tuple(unseen))
        found = differences(Wanted({things.key(one): one for one in wanted_}), report)
        return {one.key for one in found}

    turned = {Direction.MISSING: Direction.EXTRA, Direction.EXTRA: Direction.MISSING}
    assert judged(must, there) == {
        (turned[direction], kind, name) for direction, kind, name in judged(there, must)
    }


def test_a_report_comes_through_as_it_was_sent() -> None:
    sent = inventory(*whole(), unseen=(Kind.SWITCH,), cut={Kind.FDB: 3})
    assert decode(encode(sent), HostInventory) == sent


@pytest.mark.parametrize("name", ["eth0", "cu7-0;reboot", "../x", "cu7-8", "", "cu7-0\n"])
def test_a_host_is_never_told_to_remove_what_cannot_be_ours(name: str) -> None:
    document = {
        "host_uuid": HOST_UUID,
        "strays": [{"kind": "interface", "name": name}],
        "version": 1,
    }
    with pytest.raises(MalformedDocument):
        decode(document, StrayRemoval)
