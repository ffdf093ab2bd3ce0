"""Tells the neighbours on the uplink that an address is here now, so that they forget where it was.

No tool does it for an address that the host only answers for: arping(8) wants to bind it. The two
frames are pure functions; `announce` sends them.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from networks.host.addresses import Address
from networks.host.links import Uplink

_ARP, _IPV6, _ICMPV6 = 0x0806, 0x86DD, 58
_EVERYBODY, _ALL_NODES = bytes.fromhex("ffffffffffff"), bytes.fromhex("333300000001")
_ALL_NODES6 = IPv6Address("ff02::1").packed
_ADVERTISEMENT, _ROUTER, _OVERRIDE = 136, 0x80000000, 0x20000000


def announce(uplink: Uplink, addresses: Iterable[Address], guest: str | None = None) -> None:
    """Once for each address, to everybody on the uplink's link; raises OSError.

    Under the host's MAC, or under that of a `guest` in the host's bridge.
    """
    if uplink.mac is None:
        return
    mac = bytes.fromhex((guest or uplink.mac).replace(":", ""))
    flags = _OVERRIDE if guest else _ROUTER | _OVERRIDE
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
        link.bind((uplink.name, 0))
        for address in addresses:
            if isinstance(address, IPv4Address):
                link.send(gratuitous_arp(mac, address))
            else:
                link.send(unsolicited_advertisement(mac, address, flags))


def gratuitous_arp(mac: bytes, address: IPv4Address) -> bytes:
    """An ARP announcement: a request that asks for its own sender (RFC 5227, 3)."""
    header = _EVERYBODY + mac + struct.pack("!H", _ARP)
    request = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    return header + request + mac + address.packed + bytes(6) + address.packed


def unsolicited_advertisement(
    mac: bytes, address: IPv6Address, flags: int = _ROUTER | _OVERRIDE
) -> bytes:
    """A neighbour advertisement that overrides what is known (RFC 4861, 4.4 and 7.2.6)."""
    body = struct.pack("!BBHI", _ADVERTISEMENT, 0, 0, flags) + address.packed
    body += bytes((2, 1)) + mac  # option: the target's link-layer address
    ends = address.packed + _ALL_NODES6
    pseudo_header = ends + struct.pack("!II", len(body), _ICMPV6)
    body = body[:2] + struct.pack("!H", _checksum(pseudo_header + body)) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), _ICMPV6, 255)
    return _ALL_NODES + mac + struct.pack("!H", _IPV6) + header + ends + body


def _checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
