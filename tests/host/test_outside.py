"""The process that leads a guest outside, played with by a guest that knows no rules."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from networks.host import outlets
from networks.host.outside_filter import FRAGMENT
from networks.host.outside_orders import Orders, Place
from tests.host.world import until

pytestmark = pytest.mark.rootless

GUEST, GATEWAY, FAR = "10.0.2.15", "10.0.2.2", "203.0.113.1"
MAC = bytes.fromhex("020000000007")
ECHO = struct.pack("!BBHHH", 8, 0, 0xF7FF, 0, 0)
ICMP, UDP = 1, 17


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[socket.socket]:
    """Its end of the wire, as QEMU has it."""
    own, path = tmp_path / "guest", tmp_path / "outlet"
    orders = Orders(
        socket=str(own),
        network="10.0.2.0/24",
        gateway=GATEWAY,
        resolver="10.0.2.3",
        guest=GUEST,
        hostname="web-1",
        mtu=1500,
        protected=(),
        forwards=(),
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
        wire.bind(str(own))
        wire.settimeout(5)
        outlets.ensure(path, orders, tmp_path / "log")
        try:
            wire.connect(str(Place(path).socket))
            yield wire
        finally:
            outlets.remove(path)


def packet(protocol: int, to: str, payload: bytes, fragment: int = 0) -> bytes:
    ends = IPv4Address(GUEST).packed + IPv4Address(to).packed
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 7, fragment, 64, protocol)
    words = struct.unpack("!9H", head + ends)
    total = sum(words)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    ethernet = b"\xff" * 6 + MAC + b"\x08\x00"
    return ethernet + head + struct.pack("!H", checksum) + ends + payload


def announcement() -> bytes:
    """So that it is known where answers go."""
    own = IPv4Address(GUEST).packed
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + MAC + own + bytes(6) + own
    return b"\xff" * 6 + MAC + b"\x08\x06" + arp


def is_answered(guest: socket.socket) -> bool:
    guest.send(announcement())
    guest.send(packet(ICMP, GATEWAY, ECHO))
    while True:
        frame = guest.recv(2048)
        if frame[12:14] == b"\x08\x00" and frame[23] == ICMP:
            return frame[34] == 0  # an echo reply


@pytest.mark.parametrize("protocol", [ICMP, UDP])
@pytest.mark.parametrize("to", [GATEWAY, FAR])
def test_pieces_in_the_wrong_order_end_nothing(
    guest: socket.socket, tmp_path: Path, protocol: int, to: str
) -> None:
    assert is_answered(guest)
    outlet = tmp_path / "outlet"
    before = outlets.find(outlet)
    guest.send(packet(protocol, to, bytes(8), fragment=1))
    assert is_answered(guest)
    assert outlets.find(outlet) == before
    until(lambda: outlets.dropped(outlet)[FRAGMENT] == 1, "it is counted", seconds=5)
