"""Ways around a bridged guest's firewall, none of which may work, and how its floating addresses
are announced.

The test plays the guests on their TAPs, and the neighbour in the outside namespace.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from msgspec import structs
from pyroute2 import netns

from cloud import shell
from deploy import lab
from deploy.lab import Lab
from networks.host import bridge_firewall, nics
from networks.host.links import Tap
from networks.spec import FirewallSpec, Presence, RuleSpec
from tests.documents import SPEC
from tests.host import frames, wire
from tests.host.frames import IPV4, NEEDLE, Port
from tests.host.wire import arrives, capture
from tests.host.world import World, until

pytestmark = pytest.mark.public

OWN, FLOATING, FLOATING6 = "198.51.100.7", "203.0.113.77", "2001:db8:a:77::/64"
CLOSED = FirewallSpec((RuleSpec("in", "tcp", ("0.0.0.0/0",), (80, 80)),))
NIC = structs.replace(
    SPEC.nics[0], mode="public_bridged", prefix4=24, gateway=lab.ROUTER, firewall=CLOSED
)
UDP9 = FirewallSpec((RuleSpec("in", "udp", ("0.0.0.0/0",), (9, 9)),))
ONLY_WEB = RuleSpec("out", "tcp", ("0.0.0.0/0",), (80, 80))
TAP = Tap("cu7-0", NIC, None)
OPEN = Tap("cu7-0", structs.replace(NIC, firewall=None), None)
OTHER = Tap(
    "cu9-0",
    structs.replace(SPEC.nics[0], nic_id=9, mac="02:00:00:00:00:09", ipv4="198.51.100.9"),
    None,
)
STRANGER = "02:00:00:00:00:99"


@pytest.fixture
def host_lab(own_lab: Lab) -> Lab:
    return own_lab


@pytest.fixture
def bare_world(bare_world: World) -> World:
    bare_world.become_bridged()
    return bare_world


@pytest.fixture
def port(bare_world: World) -> Iterator[Port]:
    nics.ensure_nics([TAP], bare_world.host.surroundings)
    with frames.opened(TAP.name) as opened:
        until(
            lambda: "LOWER_UP" in bare_world.seen("ip", "link", "show", TAP.name), "the link is up"
        )
        yield opened
    nics.remove_nics([TAP.name, OTHER.name], [], bare_world.host.surroundings)


@pytest.fixture
def neighbour(bare_world: World) -> Iterator[socket.socket]:
    """Sends any frame from the outside network."""
    netns.pushns(bare_world.lab.outside)
    try:
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sender.bind((lab.BRIDGE, 0))
    finally:
        netns.popns()
    with sender:
        yield sender


@pytest.fixture
def outside(bare_world: World) -> Iterator[socket.socket]:
    with capture(bare_world) as listener:
        yield listener


def bridge_mac(world: World) -> str:
    return world.seen("ip", "-o", "link", "show", "br-cumulet").split("ether ")[1].split()[0]


def led_there(world: World) -> None:
    """The host knows where the guest is."""
    world.seen("ip", "route", "add", OWN, "dev", "br-cumulet")
    knows(world, OWN, NIC.mac, "br-cumulet")


def knows(world: World, address: str, mac: str, device: str) -> None:
    entry = ("lladdr", mac, "dev", device, "nud", "permanent")
    world.seen("ip", "neigh", "replace", address, *entry)


def aimed(to: str) -> bytes:
    """A packet for the guest from outside, in a frame for `to`."""
    sent = frames.udp4(STRANGER, "198.51.100.200", to=OWN)
    return frames.mac(to) + sent[6:]


def test_what_no_rule_lets_in_does_not_come_in_and_with_no_firewall_it_does(
    bare_world: World, port: Port, neighbour: socket.socket
) -> None:
    neighbour.send(aimed(NIC.mac))
    assert not port.hears(NEEDLE)
    nics.ensure_nics([OPEN], bare_world.host.surroundings)
    neighbour.send(aimed(NIC.mac))
    assert port.hears(NEEDLE)


@pytest.mark.parametrize("disguise", [frames.BROADCAST, "01:00:5e:00:00:01"])
def test_a_packet_for_the_guest_does_not_come_in_as_a_broadcast(
    port: Port, neighbour: socket.socket, disguise: str
) -> None:
    neighbour.send(aimed(disguise))
    assert not port.hears(NEEDLE)
    multicast = frames.mac(disguise) + frames.udp4(STRANGER, "198.51.100.200")[6:]
    neighbour.send(multicast)
    assert port.hears(NEEDLE)


@pytest.mark.parametrize("vlan", [0, 5])
def test_a_packet_does_not_come_in_under_a_tag(
    bare_world: World, port: Port, neighbour: socket.socket, vlan: int
) -> None:
    """Tag 0 is none for most guests, and for the bridge it is no packet that it could judge."""
    nics.ensure_nics([OPEN], bare_world.host.surroundings)
    neighbour.send(frames.tagged(aimed(NIC.mac), vlan))
    assert not port.hears(NEEDLE)
    neighbour.send(aimed(NIC.mac))
    assert port.hears(NEEDLE)


def test_neighbours_go_on_finding_a_guest_behind_a_firewall(
    port: Port, neighbour: socket.socket
) -> None:
    question = frames.arp(STRANGER, "198.51.100.200", wanted=OWN)
    neighbour.send(question)
    assert port.hears(NEEDLE)
    solicitation = frames.icmpv6(
        STRANGER, "fe80::99", 135, bytes(4) + frames.ipv6("fe80::ff:fe00:7") + NEEDLE
    )
    neighbour.send(frames.mac(NIC.mac) + solicitation[6:])
    assert port.hears(NEEDLE)


def test_a_routed_guest_of_the_same_host_gets_no_further_than_the_outside(
    bare_world: World, port: Port
) -> None:
    """Its packets are routed into the bridge and never pass through it."""
    around = bare_world.host.surroundings
    nics.ensure_nics([OTHER], around)
    led_there(bare_world)
    with wire.plugged(bare_world, OTHER) as other:
        other.udp(to=OWN, port=9)
        assert not port.hears(other.content)
        for lets_it_in in (UDP9, None):
            nic = structs.replace(NIC, firewall=lets_it_in)
            nics.ensure_nics([Tap(TAP.name, nic, None)], around)
            other.udp(to=OWN, port=9)
            assert port.hears(other.content)


def test_what_a_neighbour_sends_by_way_of_the_host_meets_the_firewall_too(
    bare_world: World, port: Port, neighbour: socket.socket
) -> None:
    led_there(bare_world)
    bare_world.seen("sysctl", "-qw", "net.ipv4.ip_forward=1")
    neighbour.send(aimed(bridge_mac(bare_world)))
    assert not port.hears(NEEDLE)
    nics.ensure_nics([OPEN], bare_world.host.surroundings)
    neighbour.send(aimed(bridge_mac(bare_world)))
    assert port.hears(NEEDLE)


def test_what_the_host_routes_to_an_address_of_outside_dhcp_meets_a_closed_door(
    bare_world: World, port: Port, neighbour: socket.socket
) -> None:
    """The host does not know whose firewall it would be. Answers to the guest do come in."""
    around = bare_world.host.surroundings
    leasing = Tap(TAP.name, structs.replace(NIC, ipv4=None, dhcp=True), None)
    nics.ensure_nics([leasing, OTHER], around)
    led_there(bare_world)
    with wire.plugged(bare_world, OTHER) as other:
        other.udp(to=OWN, port=9)
        assert not port.hears(other.content)
        neighbour.send(aimed(bridge_mac(bare_world)))
        assert not port.hears(NEEDLE)
        knows(bare_world, "198.51.100.9", OTHER.nic.mac, OTHER.name)
        asked = frames.udp4(NIC.mac, OWN, to="198.51.100.9")
        port.send(frames.mac(bridge_mac(bare_world)) + asked[6:])
        assert other.hears(IPV4, NEEDLE)
        other.udp(to=OWN, port=5000, source_port=9)
        assert port.hears(other.content)
        nics.ensure_nics([Tap(TAP.name, structs.replace(leasing.nic, firewall=None), None)], around)
        neighbour.send(aimed(bridge_mac(bare_world)))
        assert port.hears(NEEDLE)


def test_the_ports_of_dhcp_are_open_only_to_guests_that_outside_dhcp_gives_addresses(
    bare_world: World, port: Port, neighbour: socket.socket, outside: socket.socket
) -> None:
    answer = frames.udp4(STRANGER, "198.51.100.200", ports=(67, 68), to=OWN)
    answer = frames.mac(NIC.mac) + answer[6:]
    question = frames.udp4(NIC.mac, "0.0.0.0", ports=(68, 67))
    shut = structs.replace(NIC, firewall=FirewallSpec((*CLOSED.rules, ONLY_WEB)))
    for dhcp in (False, True):
        nic = structs.replace(shut, ipv4=None if dhcp else NIC.ipv4, dhcp=dhcp)
        nics.ensure_nics([Tap(TAP.name, nic, None)], bare_world.host.surroundings)
        neighbour.send(answer)
        assert port.hears(NEEDLE) is dhcp
        port.send(question)
        assert arrives(outside, question[14:].rstrip(b"\0")) is dhcp


def test_a_floating_address_is_announced_under_the_guest_s_own_mac(
    bare_world: World, port: Port
) -> None:
    floating = Tap("cu7-0", structs.replace(NIC, floating=(FLOATING, FLOATING6)), None)
    own = frames.mac(NIC.mac)
    for needle in (
        own + frames.ipv4(FLOATING) + bytes(6) + frames.ipv4(FLOATING),
        frames.ipv6("2001:db8:a:77::1") + b"\2\1" + own,
    ):
        with capture(bare_world) as outside:
            nics.ensure_nics([floating], bare_world.host.surroundings)
            assert arrives(outside, needle, seconds=3)
        nics.ensure_nics([TAP], bare_world.host.surroundings)


def both_with(*floating: str) -> tuple[Tap, Tap]:
    """Two guests whose documents both say that they have these addresses."""
    first = structs.replace(NIC, floating=floating)
    second = structs.replace(first, nic_id=9, mac=OTHER.nic.mac, ipv4="198.51.100.9")
    return Tap(TAP.name, first, None), Tap(OTHER.name, second, None)


def test_an_address_that_an_older_document_took_is_missed_and_taken_back(
    bare_world: World, port: Port
) -> None:
    around = bare_world.host.surroundings
    for address in (FLOATING, FLOATING6):
        stale, owner = both_with(address)
        nics.ensure_nics([owner], around)
        assert nics.presence([owner], around) is Presence.ALL
        nics.ensure_nics([stale], around)
        assert nics.presence([owner], around) is Presence.PART
        nics.ensure_nics([TAP], around)
        nics.ensure_nics([owner], around)
        assert nics.presence([TAP], around) is nics.presence([owner], around) is Presence.ALL


def test_an_address_moves_to_another_bridged_guest_whoever_is_told_first(
    bare_world: World, port: Port
) -> None:
    around = bare_world.host.surroundings
    first, second = both_with(FLOATING, FLOATING6)
    nics.ensure_nics([first], around)
    nics.ensure_nics([second], around)
    nics.ensure_nics([TAP], around)
    assert nics.presence([TAP], around) is Presence.ALL
    assert nics.presence([second], around) is Presence.ALL
    nics.remove_nics([TAP.name, second.name], [], around)
    left = shell.run(["nft", "list", "table", "inet", bridge_firewall.HOST_TABLE], timeout=5)
    assert "cu7-0" not in left.stdout
    assert "cu9-0" not in left.stdout
