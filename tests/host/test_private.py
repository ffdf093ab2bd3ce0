"""One private switch over several hosts: what crosses, what does not, and what nobody hears.

The tests play the guests themselves, at the ends of links that the hosts made for them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from msgspec import structs

from networks.host import mesh, plan, processes, wireguard
from networks.spec import NicReport, RouteSpec
from tests.host.private_cloud import EXPERIMENT, Network, crosses, linked, played, reported
from tests.host.wire import (
    ADVERTISEMENT,
    ARP,
    ARP_REPLY,
    BROADCAST,
    IPV4,
    IPV6,
    SOLICITATION,
    Wire,
    arrives,
    capture,
    ip,
    mac,
)
from tests.host.world import World, until

pytestmark = pytest.mark.private

MULTICAST = "01:00:5e:00:00:fb"
NOBODY = "02:00:00:00:99:99"


@pytest.fixture
def network(hosts: list[World]) -> Network:
    """Members on the first two hosts."""
    made = Network(5)
    made.placed = [(hosts[0], made.nic("10.0.1.11")), (hosts[1], made.nic("10.0.1.12"))]
    reports = made.tell()
    assert all(report.converged for report in reports), reports
    return made


@pytest.fixture
def guests(network: Network) -> Iterator[list[Wire]]:
    with playing(network) as wires:
        yield wires


class playing(ExitStack):  # noqa: N801 - reads as a verb
    """All members of a network, played."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._network = network

    def __enter__(self) -> list[Wire]:  # type: ignore[override]
        super().__enter__()
        return [self.enter_context(played(world, nic)) for world, nic in self._network.placed]


@pytest.mark.parametrize("to", [BROADCAST, MULTICAST, NOBODY, "the other"])
def test_frames_of_any_protocol_cross_hosts(guests: list[Wire], to: str) -> None:
    one, other = guests
    to = other.nic.mac if to == "the other" else to
    one.send(EXPERIMENT, one.content, to=to)
    assert other.hears(EXPERIMENT, one.content, seconds=5)
    assert not one.hears(EXPERIMENT, one.content, seconds=0.2)


def test_arp_for_a_known_member_is_answered_by_the_asking_guests_own_host(
    guests: list[Wire],
) -> None:
    one, other = guests
    one.arp(sender="10.0.1.11", wanted="10.0.1.12")
    assert one.hears(ARP, ARP_REPLY + mac(other.nic.mac) + ip("10.0.1.12"))
    assert not other.hears(ARP, ip("10.0.1.11"), seconds=0.3)
    # One that no document names is asked for everywhere.
    one.arp(sender="10.0.1.11", wanted="10.0.1.99")
    assert other.hears(ARP, ip("10.0.1.99"))


def test_a_guest_that_announces_its_address_is_heard_on_other_hosts(guests: list[Wire]) -> None:
    one, other = guests
    one.arp(sender="10.0.1.11", wanted="10.0.1.11")
    assert other.hears(ARP, mac(one.nic.mac) + ip("10.0.1.11"))


def test_neighbours_find_each_other_by_ipv6_on_their_own_link(guests: list[Wire]) -> None:
    one, other = guests
    asked, group = link_local(other), "33:33:00:00:00:01"
    lladdr = (1, one.nic.mac)
    one.icmpv6(SOLICITATION, target=asked, sender=link_local(one), option=lladdr, mac_to=group)
    assert other.hears(IPV6, ip(asked))
    lladdr = (2, other.nic.mac)
    other.icmpv6(ADVERTISEMENT, target=asked, sender=asked, option=lladdr, mac_to=one.nic.mac)
    assert one.hears(IPV6, bytes((2, 1)) + mac(other.nic.mac))


def test_members_of_one_host_are_neighbours_too(network: Network, guests: list[Wire]) -> None:
    world, _ = network.placed[0]
    network.placed.append((world, network.nic("10.0.1.15")))
    network.tell()
    with played(world, network.placed[2][1]) as third:
        assert crosses(third, guests[0])
        assert crosses(guests[0], third)
        assert crosses(guests[1], third)
        guests[0].arp(sender="10.0.1.11", wanted="10.0.1.15")
        assert third.hears(ARP, ip("10.0.1.11") + bytes(6) + ip("10.0.1.15"))
        assert not guests[1].hears(ARP, ip("10.0.1.15"), seconds=0.3)


def test_the_gateway_answers_on_each_host_with_one_mac_and_hears_no_other_host(
    network: Network, guests: list[Wire]
) -> None:
    for asker, other in (guests, guests[::-1]):
        asker.arp(sender=str(asker.nic.ipv4), wanted="10.0.1.1")
        gateway = mac(plan.gateway_mac(network.network_id))
        assert asker.hears(ARP, ARP_REPLY + gateway + ip("10.0.1.1"))
        assert not other.hears(ARP, ip("10.0.1.1"), seconds=0.2)


def test_nothing_of_a_frame_is_readable_on_the_fabric(
    hosts: list[World], guests: list[Wire]
) -> None:
    one, other = guests
    with capture(hosts[0]) as fabric:
        one.udp(to="10.0.1.12", port=9, mac_to=other.nic.mac)
        assert other.hears(IPV4, one.content, seconds=5)
        assert not arrives(fabric, one.content)


def test_without_its_tunnel_a_host_sends_nothing_in_the_clear(
    hosts: list[World], guests: list[Wire]
) -> None:
    one, other = guests
    assert crosses(one, other)
    os.kill(tunnel_process(hosts[0]), signal.SIGKILL)
    with capture(hosts[0]) as fabric:
        one.udp(to="10.0.1.12", port=9, mac_to=other.nic.mac)
        assert not other.hears(IPV4, one.content)
        assert not arrives(fabric, one.content)


def test_two_networks_of_one_range_never_see_each_others_frames(
    hosts: list[World], network: Network, guests: list[Wire]
) -> None:
    twin = Network(6)
    twin.placed = [(hosts[0], twin.nic("10.0.1.11")), (hosts[1], twin.nic("10.0.1.12"))]
    twin.tell()
    with playing(twin) as strangers:
        for to in (BROADCAST, guests[1].nic.mac, strangers[1].nic.mac):
            guests[0].send(EXPERIMENT, guests[0].content, to=to)
        assert guests[1].hears(EXPERIMENT, guests[0].content)
        assert not any(one.hears(EXPERIMENT, guests[0].content, seconds=0.3) for one in strangers)
        assert crosses(*strangers)


def test_a_third_host_joins_and_leaves(
    hosts: list[World], network: Network, guests: list[Wire]
) -> None:
    network.placed.append((hosts[2], network.nic("10.0.1.13")))
    network.tell()
    with played(*network.placed[2]) as third:
        for other in guests:
            assert crosses(third, other)
            assert crosses(other, third)
        guests[0].send(EXPERIMENT, guests[0].content, to=BROADCAST)
        assert third.hears(EXPERIMENT, guests[0].content)
    report = network.leave(hosts[2])
    assert (report.present, report.converged) == (False, True)
    network.tell()
    left = hosts[2].seen("ip", "-o", "link")
    assert not [kind for kind in ("cb5", "cv5", "cg5", "cw") if kind in left]
    assert crosses(*guests)


def test_what_a_removed_host_sends_is_dropped_at_once(
    hosts: list[World], network: Network, guests: list[Wire]
) -> None:
    one, other = guests
    assert crosses(one, other)
    network.tell(hosts[1], without=hosts[0])
    assert not crosses(one, other, seconds=1)
    assert not crosses(other, one, seconds=0.5)
    network.tell(hosts[1])
    assert crosses(one, other, seconds=10)


def test_a_tunnel_whose_program_is_killed_is_back_within_seconds(
    hosts: list[World], guests: list[Wire]
) -> None:
    one, other = guests
    with hosts[0].inside(), hosts[0].watched():
        before = tunnel_process(hosts[0])
        os.kill(before, signal.SIGKILL)
        assert crosses(one, other, seconds=10)
        assert tunnel_process(hosts[0]) != before


def test_a_peer_is_followed_to_where_it_can_be_reached(
    hosts: list[World], network: Network, guests: list[Wire]
) -> None:
    """It was behind NAT, and can be called now."""
    network.tell(hosts[0], callable=False)
    place = mesh.interface(hosts[0].host.uuid)
    network.tell(hosts[0])
    assert "192.0.2.12:51820" in hosts[0].seen("wg", "show", place, "endpoints")
    assert crosses(*guests)


FORGERIES = {
    "another MAC": ("mac", lambda guest: guest.arp(
        sender="10.0.1.11", wanted="10.0.1.12", source="02:00:00:00:00:66")),
    "another sender in ARP": ("arp", lambda guest: guest.arp(
        sender="10.0.1.12", wanted="10.0.1.99")),
    "the gateway's address in ARP": ("arp", lambda guest: guest.arp(
        sender="10.0.1.1", wanted="10.0.1.12")),
    "another address": ("ipv4", lambda guest: guest.udp(
        to="10.0.1.12", port=9, sender="10.0.1.77", mac_to=BROADCAST)),
    "an answer of a DHCP server": ("dhcp_server", lambda guest: guest.udp(
        to="255.255.255.255", port=68, source_port=67, mac_to=BROADCAST)),
    "a router's advertisement": ("ra", lambda guest: guest.icmpv6(
        134, sender=link_local(guest))),
    "a tagged frame": ("protocol", lambda guest: guest.send(0x8100, guest.content, to=BROADCAST)),
}  # fmt: skip


def link_local(guest: Wire) -> str:
    first, *rest = (int(part, 16) for part in guest.nic.mac.split(":"))
    octets = bytes((first ^ 2, rest[0], rest[1], 0xFF, 0xFE, *rest[2:]))
    return f"fe80::{octets.hex(':', 2)}"


@pytest.mark.parametrize("name", FORGERIES)
def test_what_a_guest_forges_is_dropped_and_counted(
    hosts: list[World], network: Network, guests: list[Wire], name: str
) -> None:
    reason, forge = FORGERIES[name]
    forge(guests[0])
    seen: NicReport = until_dropped(hosts[0], network, reason)
    assert {key for key, count in seen.dropped.items() if count} == {reason}


def until_dropped(world: World, network: Network, reason: str) -> NicReport:
    nic = network.placed[0][1]
    until(lambda: reported(world, nic).dropped[reason], "it is counted", seconds=3)
    return reported(world, nic)


def test_an_alias_address_may_be_used_and_one_that_was_taken_away_not(
    network: Network, guests: list[Wire]
) -> None:
    one, other = guests
    one.udp(to="10.0.1.12", port=9, sender="10.0.1.50", mac_to=other.nic.mac)
    assert not other.hears(IPV4, one.content, seconds=0.5)
    world, nic = network.placed[0]
    network.placed[0] = (world, structs.replace(nic, floating=("10.0.1.50",)))
    network.tell()
    with world.inside():
        linked(world, network.placed[0][1])
    one.udp(to="10.0.1.12", port=9, sender="10.0.1.50", mac_to=other.nic.mac)
    assert other.hears(IPV4, one.content)
    other.arp(sender="10.0.1.12", wanted="10.0.1.50")
    assert other.hears(ARP, ARP_REPLY + mac(nic.mac) + ip("10.0.1.50"))


def test_only_who_a_route_leads_to_may_speak_for_what_lies_behind(
    network: Network, guests: list[Wire]
) -> None:
    one, other = guests
    network.settings["routes"] = (RouteSpec("0.0.0.0/0", "10.0.1.11"),)
    network.tell()
    for world, nic in network.placed:
        with world.inside():
            linked(world, nic)
    one.udp(to="10.0.1.12", port=9, sender="203.0.113.9", mac_to=other.nic.mac)
    assert other.hears(IPV4, one.content)
    other.udp(to="10.0.1.11", port=9, sender="203.0.113.9", mac_to=one.nic.mac)
    assert not one.hears(IPV4, other.content, seconds=0.3)
    one.udp(to="10.0.1.12", port=9, sender="10.0.2.77", mac_to=other.nic.mac)
    assert not other.hears(IPV4, ip("10.0.2.77"), seconds=0.3)


def test_a_question_for_dhcp_is_answered_here_and_heard_on_no_other_host(
    guests: list[Wire],
) -> None:
    one, other = guests
    one.discover()
    offer = one.answer(IPV4, ip("10.0.1.11") + ip("10.0.1.1"), seconds=5)
    assert offer
    assert bytes((26, 2)) + (1390).to_bytes(2, "big") in offer  # the interface's MTU
    assert not other.hears(IPV4, mac(one.nic.mac), seconds=0.5)


def tunnel_process(world: World) -> int:
    found = processes.find(wireguard.PROGRAM, mesh.interface(world.host.uuid))
    assert found is not None
    return found
