"""An address that comes to a guest and goes again, while it runs: the host's part.

The test plays the guest on the TAP; the outside namespace is the neighbour.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from msgspec import structs

from cloud import shell
from networks.host import nics
from networks.host.addresses import led_to
from networks.host.links import Tap
from networks.host.nics import Surroundings
from networks.spec import Presence
from tests.documents import SPEC
from tests.host.wire import ARP, IPV6, Wire, arrives, capture, ip, plugged
from tests.host.world import World

pytestmark = pytest.mark.public

NIC = structs.replace(SPEC.nics[0], ipv6="2001:db8:a:7::/64")
FLOATING, FLOATING6 = "203.0.113.77", "2001:db8:a:77::/64"
FIRST6 = "2001:db8:a:77::1"
TAP = Tap("cu7-0", NIC, None)
WITH = Tap("cu7-0", structs.replace(NIC, floating=(FLOATING, FLOATING6)), None)
OTHER = Tap(
    "cu9-0",
    structs.replace(WITH.nic, nic_id=9, mac="02:00:00:00:00:09", ipv4=None, ipv6=None),
    None,
)
AROUND = Surroundings("uplink")


@pytest.fixture
def wire(bare_world: World) -> Iterator[Wire]:
    nics.ensure_nics([TAP], AROUND)
    with plugged(bare_world, TAP) as wire:
        yield wire
    nics.remove_nics([TAP.name, OTHER.name], led_to(WITH.nic), AROUND)


@pytest.fixture
def outside(bare_world: World) -> Iterator[socket.socket]:
    with capture(bare_world) as listener:
        yield listener


def knock(world: World, address: str) -> None:
    family = 10 if ":" in address else 2
    code = f"import socket; socket.socket({family}, 2).sendto(b'knock', ('{address}', 9))"
    shell.run([*world.lab.enter(world.lab.outside), "python3", "-c", code], timeout=10)


def uplink_mac(world: World) -> bytes:
    words = world.seen("ip", "-o", "link", "show", "uplink").split()
    return bytes.fromhex(words[words.index("link/ether") + 1].replace(":", ""))


@pytest.mark.parametrize("address", [NIC.ipv4, "2001:db8:a:7::1"])
def test_the_outside_finds_the_guest_s_own_addresses(
    wire: Wire, bare_world: World, address: str
) -> None:
    knock(bare_world, address)
    assert wire.hears(IPV6 if ":" in address else ARP, ip(address))


@pytest.mark.parametrize("address", [FLOATING, FIRST6])
def test_an_address_that_is_added_is_found_from_outside(
    wire: Wire, bare_world: World, address: str
) -> None:
    nics.ensure_nics([WITH], AROUND)
    knock(bare_world, address)
    assert wire.hears(IPV6 if ":" in address else ARP, ip(address))


def test_what_is_added_is_announced_to_the_neighbours(
    wire: Wire, outside: socket.socket, bare_world: World
) -> None:
    nics.ensure_nics([WITH], AROUND)
    mac = uplink_mac(bare_world)
    assert arrives(outside, mac + ip(FLOATING) + bytes(6) + ip(FLOATING), seconds=3)
    nics.remove_nics([TAP.name], led_to(WITH.nic), AROUND)
    nics.ensure_nics([WITH], AROUND)
    assert arrives(outside, ip(FIRST6) + bytes((2, 1)) + mac, seconds=3)


def test_an_address_that_is_taken_away_leads_nowhere(wire: Wire, bare_world: World) -> None:
    nics.ensure_nics([WITH], AROUND)
    assert nics.presence([TAP], AROUND) is Presence.PART
    nics.ensure_nics([TAP], AROUND)
    assert nics.presence([TAP], AROUND) is Presence.ALL
    for command in (("ip", "route"), ("ip", "-6", "route"), ("ip", "neigh", "show", "proxy")):
        said = bare_world.seen(*command)
        assert FLOATING not in said
        assert "2001:db8:a:77:" not in said
    assert NIC.ipv4 in bare_world.seen("ip", "route")


def test_an_address_moves_to_another_guest_of_the_host_whoever_is_told_first(
    wire: Wire, bare_world: World
) -> None:
    nics.ensure_nics([WITH], AROUND)
    nics.ensure_nics([OTHER], AROUND)
    nics.ensure_nics([TAP], AROUND)
    assert nics.presence([OTHER], AROUND) is Presence.ALL
    assert nics.presence([TAP], AROUND) is Presence.ALL
    nics.remove_nics([TAP.name], led_to(WITH.nic), AROUND)
    assert nics.presence([OTHER], AROUND) is Presence.ALL
    nics.ensure_nics([TAP], AROUND)


def test_a_guest_that_lost_its_address_does_not_use_it(wire: Wire, outside: socket.socket) -> None:
    nics.ensure_nics([WITH], AROUND)
    wire.udp(to="203.0.113.200", port=9, sender=FLOATING)
    assert arrives(outside, wire.content, seconds=3)
    nics.ensure_nics([TAP], AROUND)
    before = nics.reports([TAP])[0].dropped["ipv4"]
    wire.udp(to="203.0.113.200", port=9, sender=FLOATING)
    assert nics.reports([TAP])[0].dropped["ipv4"] == before + 1


def test_the_host_goes_on_hearing_routers_while_it_is_one(wire: Wire, bare_world: World) -> None:
    """Linux forgets its default route when it becomes a router, unless told otherwise."""
    settings = bare_world.seen(
        *("sysctl", "-n", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.uplink.accept_ra")
    )
    assert settings.split() == ["1", "2"]
