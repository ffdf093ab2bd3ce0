"""A guest speaks for nobody but itself: frames that no guest's kernel would send.

The test plays the guest on the TAP, and listens in the outside namespace.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from msgspec import structs

from networks.host import nics
from networks.host.addresses import led_to
from networks.host.links import Tap
from networks.host.nics import Surroundings
from tests.documents import SPEC
from tests.host.wire import (
    ADVERTISEMENT,
    ARP,
    ARP_REPLY,
    ICMPV6,
    IPV6,
    ROUTER_ADVERTISEMENT,
    SOLICITATION,
    Wire,
    arrives,
    capture,
    ip,
    mac,
    plugged,
)
from tests.host.world import World

pytestmark = pytest.mark.public

NIC = structs.replace(
    SPEC.nics[0],
    ipv6="2001:db8:a:7::/64",
    floating=("203.0.113.77", "2001:db8:a:77::/64"),
)
TAP = Tap("cu7-0", NIC, None)
AROUND = Surroundings("uplink")
OWN6, OWN_LINK = "2001:db8:a:7::1", "fe80::7"
FOREIGN, FOREIGN6, FOREIGN_MAC = "203.0.113.99", "2001:db8:a:99::1", "02:00:00:00:00:99"
FAR, FAR6 = "203.0.113.200", "2001:db8:a:200::1"
GATEWAY6 = NIC.gateway6
SOURCE, TARGET = 1, 2

Forge = Callable[[Wire], None]

# What the guest sends, and under which reason it is counted.
FORGED: dict[str, tuple[Forge, str]] = {
    "a foreign MAC": (lambda wire: wire.udp(to=FAR, port=9, source=FOREIGN_MAC), "mac"),
    "a foreign MAC over IPv6": (
        lambda wire: wire.udp(to=FAR6, port=9, source=FOREIGN_MAC),
        "mac",
    ),
    "a foreign IPv4 address": (lambda wire: wire.udp(to=FAR, port=9, sender=FOREIGN), "ipv4"),
    "a foreign IPv6 address": (lambda wire: wire.udp(to=FAR6, port=9, sender=FOREIGN6), "ipv6"),
    "the gateway's IPv6 address": (
        lambda wire: wire.udp(to=FAR6, port=9, sender=GATEWAY6),
        "ipv6",
    ),
    "a DHCP server": (lambda wire: wire.udp(to=FAR, port=68, source_port=67), "dhcp_server"),
    "a DHCPv6 server": (lambda wire: wire.udp(to=FAR6, port=546, source_port=547), "dhcp_server"),
    "a DHCP server at another port": (lambda wire: wire.udp(to=FAR, port=68), "dhcp_server"),
    "a DHCPv6 server at another port": (lambda wire: wire.udp(to=FAR6, port=546), "dhcp_server"),
    "a router": (lambda wire: wire.icmpv6(ROUTER_ADVERTISEMENT, sender=OWN_LINK), "ra"),
    "a redirect": (lambda wire: wire.icmpv6(137, target=FOREIGN6, sender=OWN_LINK), "nd"),
    "ARP for a foreign address": (lambda wire: wire.arp(sender=FOREIGN, wanted=NIC.gateway), "arp"),
    "ARP with a foreign MAC in it": (
        lambda wire: wire.arp(sender="198.51.100.7", wanted=NIC.gateway, says=FOREIGN_MAC),
        "arp",
    ),
    "an ARP probe for a foreign address": (
        lambda wire: wire.arp(sender="0.0.0.0", wanted=FOREIGN),
        "arp",
    ),
    "an advertisement of a foreign address": (
        lambda wire: wire.icmpv6(ADVERTISEMENT, target=FOREIGN6, option=(TARGET, NIC.mac)),
        "nd",
    ),
    "an advertisement of the gateway": (
        lambda wire: wire.icmpv6(ADVERTISEMENT, target=GATEWAY6, option=(TARGET, NIC.mac)),
        "nd",
    ),
    "an advertisement with a foreign MAC in it": (
        lambda wire: wire.icmpv6(ADVERTISEMENT, target=OWN6, option=(TARGET, FOREIGN_MAC)),
        "nd",
    ),
    "a solicitation with a foreign MAC in it": (
        lambda wire: wire.icmpv6(SOLICITATION, target=GATEWAY6, option=(SOURCE, FOREIGN_MAC)),
        "nd",
    ),
    "a claim to a foreign address": (
        lambda wire: wire.icmpv6(SOLICITATION, target=FOREIGN6, sender="::"),
        "nd",
    ),
    "a solicitation from a foreign address": (
        lambda wire: wire.icmpv6(SOLICITATION, target=GATEWAY6, sender=FOREIGN6),
        "ipv6",
    ),
    "an advertisement behind an extension header": (
        lambda wire: wire.ipv6(
            60, OWN6, "ff02::1", bytes((ICMPV6, 0, 1, 4, 0, 0, 0, 0, ADVERTISEMENT)) + bytes(23)
        ),
        "nd",
    ),
    "a foreign protocol": (lambda wire: wire.send(0x88CC, wire.content), "protocol"),
}


@pytest.fixture
def wire(bare_world: World) -> Iterator[Wire]:
    nics.ensure_nics([TAP], AROUND)
    with plugged(bare_world, TAP) as wire:
        yield wire
    nics.remove_nics([TAP.name], led_to(NIC), AROUND)


@pytest.fixture
def outside(bare_world: World) -> Iterator[socket.socket]:
    with capture(bare_world) as listener:
        yield listener


def dropped() -> dict[str, int]:
    (report,) = nics.reports([TAP])
    return report.dropped


@pytest.mark.parametrize(("forge", "reason"), FORGED.values(), ids=list(FORGED))
def test_what_a_guest_forges_is_seen_by_nobody_and_counted(
    wire: Wire, outside: socket.socket, forge: Forge, reason: str
) -> None:
    before = dropped()
    forge(wire)
    assert {**before, reason: before[reason] + 1} == dropped()
    assert not arrives(outside, wire.content, seconds=0.3)


@pytest.mark.parametrize(
    ("to", "sender"),
    [
        (FAR, "198.51.100.7"),
        (FAR, "203.0.113.77"),
        (FAR6, OWN6),
        (FAR6, "2001:db8:a:7:dead:beef::1"),
        (FAR6, "2001:db8:a:77::1"),
    ],
)
def test_a_guest_may_use_all_that_is_led_to_it(
    wire: Wire, outside: socket.socket, to: str, sender: str
) -> None:
    wire.udp(to=to, port=9, sender=sender)
    assert arrives(outside, ip(sender) + ip(to), seconds=3)
    assert not any(dropped().values())


def test_a_guest_finds_its_gateways(wire: Wire) -> None:
    wire.arp(sender="198.51.100.7", wanted=NIC.gateway)
    assert wire.hears(ARP, ARP_REPLY + mac(wire.host_mac) + ip(NIC.gateway))
    wire.icmpv6(SOLICITATION, target=GATEWAY6, to=GATEWAY6, option=(SOURCE, NIC.mac))
    assert wire.hears(IPV6, bytes((ADVERTISEMENT,)))
    assert not any(dropped().values())


def test_a_guest_may_look_whether_its_own_addresses_are_free(wire: Wire) -> None:
    wire.arp(sender="0.0.0.0", wanted="198.51.100.7")
    wire.icmpv6(SOLICITATION, target=OWN6, sender="::", to="ff02::1:ff00:1")
    wire.icmpv6(SOLICITATION, target=OWN_LINK, sender="::", to="ff02::1:ff00:7")
    assert not wire.hears(ARP, ARP_REPLY, seconds=0.3)
    assert not any(dropped().values())


def test_a_change_of_the_rules_forgets_no_count(wire: Wire) -> None:
    wire.send(0x88CC, wire.content)
    assert dropped()["protocol"] == 1
    nics.ensure_nics([Tap(TAP.name, structs.replace(NIC, floating=()), None)], AROUND)
    assert dropped()["protocol"] == 1
    wire.udp(to=FAR, port=9, sender="203.0.113.77")
    assert dropped()["ipv4"] == 1
