"""How private networks are divided: whatever is asked in whatever order, the rules hold."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.errors import CumuletError, InvalidInput, LimitExceeded
from networks.private.layout import EVERYWHERE, Layout, Way, check_range
from networks.private.mtu import private_mtu

RANGE = IPv4Network("10.0.0.0/16")
# Few distinct networks near each other, so that they meet.
blocks = st.builds(
    lambda third, prefix: str(IPv4Network((f"10.0.{third}.0", prefix), strict=False)),
    st.integers(0, 7),
    st.integers(21, 30),
)
hosts = st.builds("10.0.{}.{}".format, st.integers(0, 8), st.integers(0, 255))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("subnet"), st.one_of(blocks, st.none()), st.just("")),
        st.tuples(st.just("way"), st.one_of(blocks, st.just("0.0.0.0/0")), hosts),
        st.tuples(st.just("drop"), blocks, st.just("")),
    ),
    max_size=20,
)


def built(wanted: list[tuple[str, str | None, str]]) -> Layout:
    """What can be had of it."""
    layout = Layout(RANGE)
    for kind, network, gateway in wanted:
        try:
            if kind == "subnet":
                layout = layout.with_subnet(network)
            elif kind == "way":
                layout = layout.with_way(str(network), gateway)
            else:
                layout = layout.without_subnet(str(network))
        except CumuletError:
            continue
    return layout


@given(steps)
def test_nothing_in_a_network_overlaps(wanted: list[tuple[str, str | None, str]]) -> None:
    layout = built(wanted)
    ways = [way.destination for way in layout.ways if way.destination != EVERYWHERE]
    parts = [*layout.subnets, *ways]
    assert all(subnet.subnet_of(RANGE) for subnet in layout.subnets)
    assert not [(a, b) for a in parts for b in parts if a is not b and a.overlaps(b)]


@given(steps, hosts)
def test_whoever_follows_routes_arrives(
    wanted: list[tuple[str, str | None, str]], target: str
) -> None:
    layout = built(wanted)
    address = IPv4Address(target)
    for _ in range(len(layout.ways) + 1):
        inside = [way for way in layout.ways if way.destination != EVERYWHERE]
        way = next((way for way in inside if address in way.destination), None)
        if layout.subnet_of(address) or way is None:
            return
        address = way.gateway
    pytest.fail(f"{target} is led in a circle by {layout.ways}")


@given(steps)
def test_no_route_leads_to_an_address_that_no_member_can_have(
    wanted: list[tuple[str, str | None, str]],
) -> None:
    layout = built([step for step in wanted if step[0] == "way"])
    assert not [way for way in layout.ways if layout.is_reserved(way.gateway)]


@pytest.mark.parametrize(
    ("text", "reserved"),
    [
        ("10.0.1.0", True),
        ("10.0.1.1", True),
        ("10.0.1.255", True),
        ("10.0.1.2", False),
        ("10.0.1.254", False),
        ("10.0.0.1", True),  # the network's first
        ("172.31.1.1", True),
    ],
)
def test_gateway_and_broadcast_addresses_are_no_members(text: str, reserved: bool) -> None:
    layout = Layout(RANGE).with_subnet("10.0.1.0/24")
    assert layout.is_reserved(IPv4Address(text)) is reserved


def test_the_first_free_subnet_is_found_at_once_in_the_largest_network() -> None:
    layout = Layout(check_range("10.0.0.0/8")).with_subnet("10.0.0.0/9")
    assert layout.with_subnet(None).subnets[-1] == IPv4Network("10.128.0.0/24")
    full = Layout(check_range("10.0.0.0/24")).with_subnet("10.0.0.4/30")
    with pytest.raises(InvalidInput):
        full.with_subnet(None)


def test_a_network_has_so_many_subnets_and_routes() -> None:
    layout = Layout(RANGE)
    for _ in range(50):
        layout = layout.with_subnet(None)
    with pytest.raises(LimitExceeded):
        layout.with_subnet(None)
    for number in range(100):
        layout = layout.with_way(f"192.168.{number}.0/24", "10.0.0.2")
    with pytest.raises(LimitExceeded):
        layout.with_way("192.168.200.0/24", "10.0.0.2")


def test_what_is_removed_must_be_there() -> None:
    layout = Layout(RANGE).with_subnet(None).with_way("192.168.0.0/16", "10.0.0.2")
    with pytest.raises(InvalidInput):
        layout.without_subnet("10.0.0.0/25")
    with pytest.raises(InvalidInput):
        layout.without_way("192.168.0.0/16", "10.0.0.3")
    assert layout.without_way("192.168.0.0/16", "10.0.0.2").ways == ()


def test_a_subnet_does_not_lie_in_a_route() -> None:
    way = Way(IPv4Network("10.0.2.0/24"), IPv4Address("10.0.1.2"))
    with pytest.raises(InvalidInput):
        Layout(RANGE, ways=(way,)).with_subnet("10.0.2.128/25")


@pytest.mark.parametrize(("fabric", "mtu"), [(1500, 1390), (9000, 8890)])
def test_guests_get_what_the_fabric_leaves(fabric: int, mtu: int) -> None:
    assert private_mtu(fabric) == mtu
