"""Frames that no guest's kernel would send, byte by byte, and a TAP to send them into."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
ARP, IPV4, IPV6, VLAN = 0x0806, 0x0800, 0x86DD, 0x8100
UDP, ICMPV6 = 17, 58
BROADCAST = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "33:33:00:00:00:01"
# In every frame: what a listener looks for.
NEEDLE = b"cumulet!"


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ipv4(text: str) -> bytes:
    return socket.inet_aton(text)


def ipv6(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, text)


def frame(source: str, kind: int, payload: bytes, *, to: str = BROADCAST) -> bytes:
    return (mac(to) + mac(source) + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def arp(source: str, sender: str, *, wanted: str = "198.51.100.1", claims: str = "") -> bytes:
    """A question; `claims`: the MAC inside, if another one."""
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, 1) + mac(claims or source) + ipv4(sender)
    return frame(source, ARP, body + bytes(6) + ipv4(wanted) + NEEDLE)


def udp4(
    source: str, sender: str, *, ports: tuple[int, int] = (5000, 9), to: str = "255.255.255.255"
) -> bytes:
    body = struct.pack("!HHHH", *ports, 8 + len(NEEDLE), 0) + NEEDLE
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, UDP, 0)
    header += ipv4(sender) + ipv4(to)
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return frame(source, IPV4, header + body)


def udp6(source: str, sender: str, *, ports: tuple[int, int] = (5000, 9)) -> bytes:
    body = struct.pack("!HHHH", *ports, 8 + len(NEEDLE), 1) + NEEDLE
    return _ipv6(source, sender, UDP, body)


def icmpv6(source: str, sender: str, kind: int, body: bytes) -> bytes:
    """`body` from the fifth byte of the message on."""
    return _ipv6(source, sender, ICMPV6, struct.pack("!BBH", kind, 0, 0) + body)


def advertisement(source: str, sender: str, target: str) -> bytes:
    """A neighbour advertisement: `target` is said to be at `source`."""
    return icmpv6(
        source, sender, 136, bytes([0x20, 0, 0, 0]) + ipv6(target) + b"\2\1" + mac(source)
    )


def router(source: str, sender: str) -> bytes:
    return icmpv6(source, sender, 134, bytes(12) + NEEDLE)


def tagged(plain: bytes, vlan: int) -> bytes:
    return plain[:12] + struct.pack("!HH", VLAN, vlan) + plain[12:]


def _ipv6(source: str, sender: str, protocol: int, body: bytes) -> bytes:
    header = struct.pack("!IHBB", 6 << 28, len(body), protocol, 255)
    packet = header + ipv6(sender) + ipv6("ff02::1") + body
    return frame(source, IPV6, packet, to=ALL_NODES)


def checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass
class Port:
    """A guest's end of a TAP."""

    descriptor: int

    def send(self, sent: bytes) -> None:
        os.write(self.descriptor, sent)

    def hears(self, needle: bytes, *, seconds: float = 1.0) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if needle in os.read(self.descriptor, 4096):
                    return True
            except BlockingIOError:
                time.sleep(0.01)
        return False


@contextmanager
def opened(tap: str) -> Iterator[Port]:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(
            descriptor, TUNSETIFF, struct.pack("16sH22x", tap.encode(), IFF_TAP | IFF_NO_PI)
        )
        yield Port(descriptor)
    finally:
        os.close(descriptor)
