"""What a guest's link lets through, shown with frames that no guest's kernel would send.

The test plays the guest on the TAP itself, and listens in the outside namespace.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

import pytest
from msgspec import structs
from pyroute2 import netns

from cloud import shell
from networks.host import links, nics
from networks.host.addresses import led_to
from networks.host.links import Tap
from networks.host.nics import Surroundings
from networks.spec import NicSpec, Presence
from tests.documents import SPEC
from tests.host.world import World, until

NIC = SPEC.nics[0]
NAME = "cu7-0"
AROUND = Surroundings("uplink")
ROUTER = "192.0.2.1"
UPLINK = "192.0.2.11"
FOREIGN = "203.0.113.99"
BROADCAST = "ff:ff:ff:ff:ff:ff"
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
ARP, IPV4 = 0x0806, 0x0800
UDP, ICMP = 17, 1
ARP_REPLY = bytes((0, 2))


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ip(text: str) -> bytes:
    return socket.inet_aton(text)


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


@dataclass
class Wire:
    """The guest's end of the link."""

    descriptor: int
    host_mac: str

    def send(self, kind: int, payload: bytes, *, source: str = NIC.mac, to: str = "") -> None:
        frame = mac(to or self.host_mac) + mac(source) + struct.pack("!H", kind) + payload
        os.write(self.descriptor, frame.ljust(60, b"\0"))

    def arp(self, *, sender: str, wanted: str, source: str = NIC.mac) -> None:
        body = struct.pack("!HHBBH", 1, IPV4, 6, 4, 1) + mac(source) + ip(sender)
        self.send(ARP, body + bytes(6) + ip(wanted), source=source, to=BROADCAST)

    def udp(self, *, to: str, port: int, sender: str = NIC.ipv4, source_port: int = 5000) -> None:
        content = b"cumulet!"
        body = struct.pack("!HHHH", source_port, port, 8 + len(content), 0) + content
        self._ipv4(UDP, sender, to, body)

    def ping(self, to: str) -> None:
        body = struct.pack("!BBHHH", 8, 0, 0, 1, 1)
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
        self._ipv4(ICMP, NIC.ipv4, to, body)

    def _ipv4(self, protocol: int, sender: str, to: str, body: bytes) -> None:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0)
        header += ip(sender) + ip(to)
        header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
        self.send(IPV4, header + body)

    def hears(self, kind: int, needle: bytes, *, seconds: float = 1.0) -> bool:
        """Whether a frame of this kind with these bytes comes to the guest."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                frame = os.read(self.descriptor, 4096)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            if frame[12:14] == struct.pack("!H", kind) and needle in frame:
                return True
        return False


@pytest.fixture
def tap(bare_world: World) -> Iterator[Tap]:
    tap = Tap(NAME, NIC, None)
    nics.ensure_nics([tap], AROUND)
    yield tap
    nics.remove_nics([NAME], led_to(NIC), AROUND)


@pytest.fixture
def wire(tap: Tap, bare_world: World) -> Iterator[Wire]:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH22x", NAME.encode(), IFF_TAP | IFF_NO_PI)
    fcntl.ioctl(descriptor, TUNSETIFF, request)
    until(lambda: "state UP" in bare_world.seen("ip", "link", "show", NAME), "the link is up")
    yield Wire(descriptor, f"fe{NIC.mac[2:]}")
    os.close(descriptor)


@pytest.fixture
def outside(bare_world: World) -> Iterator[socket.socket]:
    """Hears every frame that reaches the outside namespace."""
    netns.pushns(bare_world.lab.outside)
    try:
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
    finally:
        netns.popns()
    with listener:
        yield listener


def arrives(outside: socket.socket, needle: bytes, *, seconds: float = 0.5) -> bool:
    outside.settimeout(0.05)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if needle in outside.recv(4096):
                return True
        except TimeoutError:
            continue
    return False


def test_the_guest_reaches_the_world_under_its_own_address(
    wire: Wire, outside: socket.socket
) -> None:
    wire.udp(to="203.0.113.200", port=9)
    assert arrives(outside, b"cumulet!", seconds=3)


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(
            lambda wire: wire.udp(to="203.0.113.200", port=9, sender=FOREIGN), id="address"
        ),
        pytest.param(
            lambda wire: wire.udp(to="203.0.113.200", port=68, source_port=67), id="DHCP server"
        ),
    ],
)
def test_a_forged_packet_does_not_leave_the_host(
    wire: Wire, outside: socket.socket, forge: object
) -> None:
    assert callable(forge)
    forge(wire)
    assert not arrives(outside, b"cumulet!")
    wire.udp(to="203.0.113.200", port=9)
    assert arrives(outside, b"cumulet!", seconds=3)


def test_the_host_answers_for_the_gateway(wire: Wire) -> None:
    wire.arp(sender=NIC.ipv4, wanted=NIC.gateway)
    assert wire.hears(ARP, ARP_REPLY + mac(wire.host_mac) + ip(NIC.gateway))
    wire.ping(NIC.gateway)
    assert wire.hears(IPV4, ip(NIC.gateway) + ip(NIC.ipv4))


@pytest.mark.parametrize(
    "forged", [{"sender": FOREIGN}, {"sender": NIC.ipv4, "source": "02:00:00:00:00:99"}]
)
def test_a_forged_arp_question_is_not_heard(wire: Wire, forged: dict[str, str]) -> None:
    wire.arp(wanted=NIC.gateway, **forged)
    assert not wire.hears(ARP, ARP_REPLY, seconds=0.5)


@pytest.mark.parametrize("address", [UPLINK, ROUTER])
def test_the_host_and_its_own_network_are_closed_to_guests(wire: Wire, address: str) -> None:
    wire.ping(address)
    assert not wire.hears(IPV4, ip(address) + ip(NIC.ipv4), seconds=0.5)


def test_the_outside_finds_the_guest_behind_the_host(wire: Wire, bare_world: World) -> None:
    """The host answers ARP for the guest, at once, and leads the packet to its link."""
    knock = [
        "python3",
        "-c",
        f"import socket; socket.socket(2, 2).sendto(b'knock', ('{NIC.ipv4}', 9))",
    ]
    began = time.monotonic()
    shell.run([*bare_world.lab.enter(bare_world.lab.outside), *knock], timeout=10)
    assert wire.hears(ARP, ip(NIC.ipv4))
    assert time.monotonic() - began < 0.5


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
