"""A guest's link to the world: made, seen, mended and taken away.

The test plays the guest on the TAP itself, and listens in the outside namespace.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from msgspec import structs
from pyroute2 import netns

from cloud import shell
from networks.host import links, nft, nics
from networks.host.addresses import led_to
from networks.host.links import Tap
from networks.host.nics import Surroundings
from networks.spec import NicSpec, Presence
from tests.documents import SPEC
from tests.host import frames
from tests.host.wire import ARP, ARP_REPLY, IPV4, Wire, arrives, capture, ip, mac, plugged
from tests.host.world import World

NIC = SPEC.nics[0]
NAME = "cu7-0"
AROUND = Surroundings("uplink")
ROUTER = "192.0.2.1"
UPLINK = "192.0.2.11"
# In another network of the host.
BEHIND = "10.9.0.2"


@pytest.fixture
def tap(bare_world: World) -> Iterator[Tap]:
    tap = Tap(NAME, NIC, None)
    nics.ensure_nics([tap], AROUND)
    yield tap
    nics.remove_nics([NAME], led_to(NIC), AROUND)


@pytest.fixture
def wire(tap: Tap, bare_world: World) -> Iterator[Wire]:
    with plugged(bare_world, tap) as wire:
        yield wire


@pytest.fixture
def outside(bare_world: World) -> Iterator[socket.socket]:
    with capture(bare_world) as listener:
        yield listener


def test_the_guest_reaches_the_world_under_its_own_address(
    wire: Wire, outside: socket.socket
) -> None:
    wire.udp(to="203.0.113.200", port=9)
    assert arrives(outside, wire.content, seconds=3)


def test_the_host_answers_for_the_gateway(wire: Wire) -> None:
    wire.arp(sender=NIC.ipv4, wanted=NIC.gateway)
    assert wire.hears(ARP, ARP_REPLY + mac(wire.host_mac) + ip(NIC.gateway))
    wire.ping(NIC.gateway)
    assert wire.hears(IPV4, ip(NIC.gateway) + ip(NIC.ipv4))


@pytest.mark.parametrize("address", [UPLINK, ROUTER])
def test_the_host_and_its_own_network_are_closed_to_guests(wire: Wire, address: str) -> None:
    wire.ping(address)
    assert not wire.hears(IPV4, ip(address) + ip(NIC.ipv4), seconds=0.5)


def test_the_outside_finds_the_guest_behind_the_host(wire: Wire, bare_world: World) -> None:
    """The host answers ARP for the guest, and leads the packet to its link."""
    bare_world.outside("ip", "neigh", "flush", "to", NIC.ipv4)
    knock = f"import socket; socket.socket(2, 2).sendto(b'knock', ('{NIC.ipv4}', 9))"
    bare_world.outside("python3", "-c", knock)
    assert wire.hears(ARP, ip(NIC.ipv4), seconds=3)


def test_the_host_answers_for_guests_without_thinking_first(tap: Tap) -> None:
    """By default the kernel would, for up to 0.8 s."""
    assert links.sysctl("ipv4/neigh/uplink/proxy_delay") == "0"
    six = Tap(NAME, structs.replace(NIC, ipv6="2001:db8:a:7::/64"), None)
    nics.ensure_nics([six], AROUND)
    assert links.sysctl("ipv6/neigh/uplink/proxy_delay") == "0"


@pytest.fixture
def management(bare_world: World) -> Iterator[socket.socket]:
    """The other end of another network of the host, in which it is a neighbour of `BEHIND`."""
    for command in (
        "ip link add management address 02:00:00:00:09:01 type veth peer name behind",
        "ip link set management up",
        "ip link set behind up",
        "ip address add 10.9.0.1/24 dev management",
        f"ip neigh add {BEHIND} lladdr 02:00:00:00:09:02 dev management nud permanent",
    ):
        bare_world.seen(*command.split())
    bare_world.outside("ip", "route", "add", "10.9.0.0/24", "via", UPLINK)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)) as listener:
        listener.bind(("behind", 0))
        yield listener
    bare_world.outside("ip", "route", "del", "10.9.0.0/24")
    bare_world.seen("ip", "link", "del", "management")


def test_the_host_passes_nothing_on_to_its_other_networks_but_answers(
    tap: Tap, bare_world: World, management: socket.socket
) -> None:
    netns.pushns(bare_world.lab.outside)
    try:
        stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    finally:
        netns.popns()
    with stranger:
        stranger.settimeout(3)
        stranger.bind((ROUTER, 9))
        stranger.sendto(b"stranger", (BEHIND, 5000))
        assert not arrives(management, b"stranger")
        asked = frames.udp4("02:00:00:00:09:02", BEHIND, to=ROUTER)
        management.send(frames.mac("02:00:00:00:09:01") + asked[6:])
        assert stranger.recvfrom(64) == (frames.NEEDLE, (BEHIND, 5000))
        stranger.sendto(b"answered", (BEHIND, 5000))
        assert arrives(management, b"answered", seconds=3)


def test_what_the_operator_s_own_rules_translate_is_passed_on(
    tap: Tap, bare_world: World, management: socket.socket
) -> None:
    nft.apply(
        "add table ip operator\n"
        "add chain ip operator pre { type nat hook prerouting priority dstnat; }\n"
        f"add rule ip operator pre ip daddr {UPLINK} udp dport 9 dnat to {BEHIND}\n"
    )
    knock = f"import socket; socket.socket(2, 2).sendto(b'translated', ('{UPLINK}', 9))"
    bare_world.outside("python3", "-c", knock)
    assert arrives(management, b"translated", seconds=3)
    nft.apply("delete table ip operator\n")


def test_a_network_that_the_host_comes_into_is_closed_to_guests(
    tap: Tap, wire: Wire, management: socket.socket
) -> None:
    """But for DNS, which may be there."""
    assert nics.presence([tap], AROUND) is Presence.PART
    nics.ensure_nics([tap], AROUND)
    assert nics.presence([tap], AROUND) is Presence.ALL
    wire.udp(to=BEHIND, port=9)
    assert not arrives(management, wire.content)
    wire.udp(to=BEHIND, port=53)
    assert arrives(management, wire.content, seconds=3)


def test_what_was_made_is_seen_and_making_it_again_changes_nothing(tap: Tap, world: World) -> None:
    assert nics.presence([tap], AROUND) is Presence.ALL
    before = world.seen("ip", "-o", "addr", "show", NAME)
    nics.ensure_nics([tap], AROUND)
    assert nics.presence([tap], AROUND) is Presence.ALL
    assert world.seen("ip", "-o", "addr", "show", NAME) == before


@pytest.mark.parametrize(
    "damage",
    [
        ["ip", "route", "del", NIC.ipv4],
        ["ip", "neigh", "del", "proxy", NIC.ipv4, "dev", "uplink"],
        ["nft", "delete", "table", "netdev", f"cumulet_{NAME}"],
        ["ip", "link", "del", NAME],
    ],
    ids=["route", "proxy", "rules", "interface"],
)
def test_whatever_somebody_took_away_is_missed_and_mended(tap: Tap, damage: list[str]) -> None:
    shell.run(damage, timeout=5)
    assert nics.presence([tap], AROUND) is Presence.PART
    nics.ensure_nics([tap], AROUND)
    assert nics.presence([tap], AROUND) is Presence.ALL


def test_removing_what_is_not_there_breaks_nothing(bare_world: World) -> None:
    nics.remove_nics(["cunone-0"], [ip_network("198.51.100.77")], AROUND)
    assert nics.presence([Tap("cunone-0", NIC, None)], AROUND) is Presence.NONE


def test_a_missing_uplink_is_named(bare_world: World) -> None:
    with pytest.raises(links.NoUplink, match="CUMULET_HOST_UPLINK"):
        nics.ensure_nics([Tap(NAME, NIC, None)], Surroundings("eth99"))


def test_the_default_route_s_interface_is_the_uplink_unless_one_is_named(bare_world: World) -> None:
    assert nics.uplink_address(Surroundings(None)) == nics.uplink_address(AROUND) == UPLINK


def test_the_mtu_is_that_of_the_nic(bare_world: World) -> None:
    small: NicSpec = structs.replace(NIC, mtu=1400)
    nics.ensure_nics([Tap(NAME, small, None)], AROUND)
    try:
        assert "mtu 1400" in bare_world.seen("ip", "-o", "link", "show", NAME)
    finally:
        nics.remove_nics([NAME], led_to(NIC), AROUND)
