"""The guest's end of a link, played by a test: frames that no guest's kernel would send."""

from __future__ import annotations

import os
import secrets
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

from pyroute2 import netns

from networks.host.links import Tap
from networks.spec import NicSpec
from tests.host.frames import ARP, BROADCAST, ICMPV6, IPV4, IPV6, UDP, checksum, mac, opened
from tests.host.world import World, until

ICMP = 1
ARP_REPLY = bytes((0, 2))
SOLICITATION, ADVERTISEMENT, ROUTER_ADVERTISEMENT = 135, 136, 134


def ip(text: str) -> bytes:
    return ip_address(text).packed


@dataclass
class Wire:
    """`nic` is what the guest should keep to."""

    descriptor: int
    nic: NicSpec
    # Of its own for each: what became of another test's packets is told seconds later.
    content: bytes = field(default_factory=lambda: secrets.token_bytes(8))

    @property
    def host_mac(self) -> str:
        return f"fe{self.nic.mac[2:]}"

    def send(self, kind: int, payload: bytes, *, source: str = "", to: str = "") -> None:
        ends = mac(to or self.host_mac) + mac(source or self.nic.mac)
        os.write(self.descriptor, (ends + struct.pack("!H", kind) + payload).ljust(60, b"\0"))

    def arp(self, *, sender: str, wanted: str, source: str = "", says: str = "") -> None:
        """`says`: the MAC in the message, where it is not the frame's."""
        body = struct.pack("!HHBBH", 1, IPV4, 6, 4, 1)
        body += mac(says or source or self.nic.mac) + ip(sender) + bytes(6) + ip(wanted)
        self.send(ARP, body, source=source, to=BROADCAST)

    def udp(
        self,
        *,
        to: str,
        port: int,
        sender: str = "",
        source_port: int = 5000,
        source: str = "",
        mac_to: str = "",
    ) -> None:
        body = struct.pack("!HHHH", source_port, port, 8 + len(self.content), 0) + self.content
        if ":" in to:
            self.ipv6(UDP, sender or self.address6, to, body, source=source)
        else:
            self._ipv4(UDP, sender or str(self.nic.ipv4), to, body, source, mac_to)

    def ping(self, to: str) -> None:
        body = struct.pack("!BBHHH", 8, 0, 0, 1, 1)
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
        self._ipv4(ICMP, str(self.nic.ipv4), to, body, "")

    def icmpv6(
        self,
        kind: int,
        *,
        target: str = "",
        sender: str = "",
        to: str = "ff02::1",
        option: tuple[int, str] | None = None,
        mac_to: str = "",
    ) -> None:
        """A message of neighbour discovery; `option`: its type and the MAC in it."""
        body = struct.pack("!BBHI", kind, 0, 0, 0)
        body += ip(target) if target else b""
        if option:
            body += bytes((option[0], 1)) + mac(option[1])
        self.ipv6(ICMPV6, sender or self.address6, to, body, mac_to=mac_to)

    def ipv6(
        self,
        protocol: int,
        sender: str,
        to: str,
        body: bytes,
        *,
        source: str = "",
        mac_to: str = "",
    ) -> None:
        at = 6 if protocol == UDP else 2
        ends = ip(sender) + ip(to)
        total = checksum(ends + struct.pack("!II", len(body), protocol) + body)
        body = body[:at] + struct.pack("!H", total) + body[at + 2 :]
        self.send(
            IPV6,
            struct.pack("!IHBB", 6 << 28, len(body), protocol, 255) + ends + body,
            source=source,
            to=mac_to,
        )

    @property
    def address6(self) -> str:
        assert self.nic.ipv6
        return str(IPv6Address(self.nic.ipv6.partition("/")[0]) + 1)

    def discover(self) -> None:
        """Ask for an address; RFC 2131."""
        body = struct.pack("!BBBBIHH", 1, 1, 6, 0, 0x1234, 0, 0x8000) + bytes(16)
        body += mac(self.nic.mac) + bytes(10 + 64 + 128) + bytes.fromhex("63825363")
        body += bytes((53, 1, 1, 55, 4, 1, 3, 26, 121, 255))
        body = struct.pack("!HHHH", 68, 67, 8 + len(body), 0) + body
        self._ipv4(UDP, "0.0.0.0", "255.255.255.255", body, "", BROADCAST)

    def _ipv4(
        self, protocol: int, sender: str, to: str, body: bytes, source: str, mac_to: str = ""
    ) -> None:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0)
        header += ip(sender) + ip(to)
        header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
        self.send(IPV4, header + body, source=source, to=mac_to)

    def hears(self, kind: int, needle: bytes, *, seconds: float = 1.0) -> bool:
        """Whether a frame of this kind with these bytes comes to the guest."""
        return bool(self.answer(kind, needle, seconds=seconds))

    def answer(self, kind: int, needle: bytes, *, seconds: float = 1.0) -> bytes:
        """The frame of this kind with these bytes; nothing if none comes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                frame = os.read(self.descriptor, 4096)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            if frame[12:14] == struct.pack("!H", kind) and needle in frame:
                return frame
        return b""


@contextmanager
def plugged(world: World, tap: Tap) -> Iterator[Wire]:
    """The guest holds its end of the link."""
    with opened(tap.name) as port:
        until(lambda: "state UP" in world.seen("ip", "link", "show", tap.name), "the link is up")
        yield Wire(port.descriptor, tap.nic)


@contextmanager
def capture(world: World) -> Iterator[socket.socket]:
    """Hears every frame that reaches the outside namespace."""
    netns.pushns(world.lab.outside)
    try:
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
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
