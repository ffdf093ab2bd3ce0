"""What a network's document puts into the kernel, and what a change of it costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some
from msgspec import structs

from networks.host import plan
from networks.host.plan import EVERYBODY, Change, Forwarding
from networks.spec import MemberSpec, NetworkSpec, PeerSpec, RouteSpec, SubnetSpec
from tests.documents import HOST_UUID, SPEC

SECOND = "22222222-2222-2222-2222-222222222222"
THIRD = "33333333-3333-3333-3333-333333333333"
MACS = tuple(f"02:00:00:00:00:0{number}" for number in (1, 2, 3))
NETWORK = NetworkSpec(
    network_id=5,
    host_uuid=HOST_UUID,
    generation=4,
    vni=77,
    ip_range="10.0.0.0/16",
    tunnel_ip="10.255.0.1",
    subnets=(SubnetSpec("10.0.1.0/24", "10.0.1.1"),),
    members=(
        MemberSpec(MACS[0], HOST_UUID, ("10.0.1.11",)),
        MemberSpec(MACS[1], SECOND, ("10.0.1.12", "10.0.1.50")),
    ),
    peers=(PeerSpec(SECOND, "A" * 43 + "=", "10.255.0.2", "192.0.2.12:51820"),),
)
LOCAL = [(MACS[0], "cu7-1")]
GATEWAY = "fa:00:00:00:00:05"


def test_every_place_and_every_address_stands_in_the_document() -> None:
    assert plan.wanted(NETWORK, LOCAL) == Forwarding(
        tunnels=frozenset({(MACS[1], "10.255.0.2"), (EVERYBODY, "10.255.0.2")}),
        ports=frozenset({(MACS[0], "cu7-1"), (MACS[1], "cv5"), (GATEWAY, "cg5")}),
        neighbours=frozenset(
            {
                ("10.0.1.1", GATEWAY),
                ("10.0.1.11", MACS[0]),
                ("10.0.1.12", MACS[1]),
                ("10.0.1.50", MACS[1]),
            }
        ),
    )


def test_a_new_member_costs_its_own_entries_and_no_others() -> None:
    peer = PeerSpec(THIRD, "B" * 43 + "=", "10.255.0.3")
    member = MemberSpec(MACS[2], THIRD, ("10.0.1.13",))
    more = structs.replace(
        NETWORK, members=(*NETWORK.members, member), peers=(*NETWORK.peers, peer)
    )
    assert plan.changes(plan.wanted(more, LOCAL), plan.wanted(NETWORK, LOCAL)) == [
        Change("add", "tunnels", EVERYBODY, "10.255.0.3"),
        Change("add", "tunnels", MACS[2], "10.255.0.3"),
        Change("add", "ports", MACS[2], "cv5"),
        Change("add", "neighbours", "10.0.1.13", MACS[2]),
    ]


def test_a_member_that_moves_to_another_host_is_replaced_where_it_was() -> None:
    members = (NETWORK.members[0], structs.replace(NETWORK.members[1], host_uuid=THIRD))
    peers = (PeerSpec(THIRD, "B" * 43 + "=", "10.255.0.3"),)
    moved = structs.replace(NETWORK, members=members, peers=peers)
    assert plan.changes(plan.wanted(moved, LOCAL), plan.wanted(NETWORK, LOCAL)) == [
        Change("add", "tunnels", EVERYBODY, "10.255.0.3"),
        Change("add", "tunnels", MACS[1], "10.255.0.3"),
        Change("remove", "tunnels", EVERYBODY, "10.255.0.2"),
    ]


def test_a_member_on_a_host_that_is_no_peer_is_left_out() -> None:
    alone = structs.replace(NETWORK, peers=())
    wanted = plan.wanted(alone, LOCAL)
    assert not wanted.tunnels
    assert MACS[1] not in dict(wanted.ports)


entries = some.frozensets(
    some.tuples(some.sampled_from([*MACS, EVERYBODY]), some.sampled_from(["10.255.0.2", "x"]))
)


@given(entries, entries)
def test_carried_out_the_changes_lead_from_what_is_seen_to_what_is_wanted(
    before: frozenset[tuple[str, str]], after: frozenset[tuple[str, str]]
) -> None:
    before, after = one_each(before), one_each(after)
    state = set(before)
    for change in plan.changes(Forwarding(tunnels=after), Forwarding(tunnels=before)):
        if change.verb == "add":
            if change.key != EVERYBODY:  # the kernel replaces it
                state = {entry for entry in state if entry[0] != change.key}
            state.add((change.key, change.value))
        else:
            state.remove((change.key, change.value))
    assert state == after


def one_each(found: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """A MAC is in one place; everybody is everywhere."""
    single = dict(entry for entry in sorted(found) if entry[0] != EVERYBODY)
    return frozenset({*single.items(), *(entry for entry in found if entry[0] == EVERYBODY)})


@pytest.mark.parametrize("network_id", [1, 36, 2**53 - 1])
def test_names_fit_and_differ(network_id: int) -> None:
    names = plan.names(network_id)
    every = (names.bridge, names.tunnel, names.gateway, names.exit)
    assert len(set(every)) == 4
    assert all(len(name) <= 15 for name in every)
    assert names != plan.names(network_id + 1)


@pytest.mark.parametrize(
    ("uplink", "said", "mtu"), [(1500, None, 1390), (9000, None, 8890), (9000, 1400, 1400)]
)
def test_guests_get_what_the_uplink_leaves_or_what_is_said(
    uplink: int, said: int | None, mtu: int
) -> None:
    assert plan.mtu(structs.replace(NETWORK, mtu=said), uplink) == mtu


def test_a_route_lets_its_gateway_speak_for_what_lies_behind() -> None:
    routed = structs.replace(NETWORK, routes=(RouteSpec("0.0.0.0/0", "10.0.1.50"),))
    nic = structs.replace(SPEC.nics[0], mode="private", ipv4="10.0.1.12", floating=("10.0.1.50",))
    assert plan.forwarded_for(routed, nic) == ["0.0.0.0/0"]
    assert plan.forwarded_for(routed, structs.replace(nic, floating=())) == []
