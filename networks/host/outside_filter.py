"""What a guest in user mode may call: everything but what its host itself is near. Pure.

Whatever leaves such a guest is sent by a program of its host, and so could reach what the host
reaches: its own services, its neighbours, the broker. Every frame is therefore looked at before
the program takes it. Answers to those who called a forwarded port pass, wherever they are.

No fragment passes: of one that comes before the first of its packet, libslirp (4.7) takes freed or
foreign memory for a packet. Guests know the way's MTU, so only large datagrams are lost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Final

PROTOCOL: Final = "protocol"
MALFORMED: Final = "malformed"
FRAGMENT: Final = "fragment"
PROTECTED: Final = "protected"
RESOLVER: Final = "resolver"
REASONS = (PROTOCOL, MALFORMED, FRAGMENT, PROTECTED, RESOLVER)

# "This host", loopback, link-local, multicast, and what is reserved: RFC 6890.
NEVER = tuple(
    map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"))
)

_ARP, _IPV4 = b"\x08\x06", b"\x08\x00"
_ICMP, _TCP, _UDP = 1, 6, 17
_DNS, _DHCP = 53, 67
_ETHERNET, _IP, _TCP_HEADER, _UDP_HEADER = 14, 20, 20, 8
_PLAIN_HEADER = 0x45  # version 4, five words: no options, so no source route
_IS_FRAGMENT = 0x3FFF  # "more follow", or an offset
_ACK = 0x10
_BROADCAST = int(IPv4Address("255.255.255.255"))
# Callers of forwarded UDP ports that are remembered; the oldest goes first.
_MOST_CALLERS = 1024
_MOST_KNOWN = 4096


@dataclass(frozen=True)
class Inside:
    """The network of one guest, in which its host's program plays everybody else."""

    network: IPv4Network
    gateway: IPv4Address
    resolver: IPv4Address


@dataclass(frozen=True)
class Forwarded:
    """Ports of the guest that the host's ports lead to."""

    tcp: frozenset[int] = frozenset()
    udp: frozenset[int] = frozenset()


@dataclass
class Filter:
    """`protected`: what is near the host. It remembers who called forwarded UDP ports."""

    inside: Inside
    protected: Collection[IPv4Network]
    forwarded: Forwarded = Forwarded()
    _callers: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    _near: dict[int, bool] = field(default_factory=dict)

    def reason(self, frame: bytes) -> str | None:
        """Why the guest's frame must not pass; None if it may."""
        kind = frame[12:14]
        if kind == _ARP:
            return None
        if kind != _IPV4:
            return PROTOCOL
        if len(frame) < _ETHERNET + _IP or frame[14] != _PLAIN_HEADER:
            return MALFORMED
        if int.from_bytes(frame[20:22]) & _IS_FRAGMENT:
            return FRAGMENT
        protocol = frame[23]
        if protocol not in (_ICMP, _TCP, _UDP):
            return PROTOCOL
        if self._answers(frame, protocol):
            return None
        to = int.from_bytes(frame[30:34])
        if to == _BROADCAST or _in(to, self.inside.network):
            return self._at_home(frame, protocol, to)
        return PROTECTED if self._is_near(to) else None

    def after(self, former: Filter) -> Filter:
        """The same, which also remembers whom `former` saw calling."""
        return replace(self, _callers=former._callers)

    def note(self, frame: bytes) -> None:
        """A frame on its way to the guest: its sender may be answered."""
        if frame[12:14] == _IPV4 and frame[23] == _UDP and self.forwarded.udp:
            source, _, sender, port = frame[26:30], frame[30:34], frame[34:36], frame[36:38]
            if int.from_bytes(port) in self.forwarded.udp:
                caller = source + sender + port
                self._callers[caller] = None
                self._callers.move_to_end(caller)
                if len(self._callers) > _MOST_CALLERS:
                    self._callers.popitem(last=False)

    def _answers(self, frame: bytes, protocol: int) -> bool:
        """Of TCP no segment with ACK opens a connection, so callers need not be remembered."""
        if not _is_whole(frame, protocol):
            return False
        port = int.from_bytes(frame[34:36])
        if protocol == _TCP:
            return port in self.forwarded.tcp and bool(frame[47] & _ACK)
        if protocol == _UDP and port in self.forwarded.udp:
            return frame[30:34] + frame[36:38] + frame[34:36] in self._callers
        return False

    def _at_home(self, frame: bytes, protocol: int, to: int) -> str | None:
        """Where the program answers itself: DHCP, ping, names.

        What it does with any other port of the resolver is to call that port of the host's.
        """
        port = int.from_bytes(frame[36:38]) if _is_whole(frame, protocol) else None
        gateway = int(self.inside.gateway)
        if protocol == _UDP and port == _DHCP and to in (_BROADCAST, gateway):
            return None
        if to == int(self.inside.resolver):
            return None if protocol in (_TCP, _UDP) and port == _DNS else RESOLVER
        return None if protocol == _ICMP and to == gateway else PROTECTED

    def _is_near(self, address: int) -> bool:
        known = self._near.get(address)
        if known is None:
            if len(self._near) >= _MOST_KNOWN:
                self._near.clear()
            networks = (*NEVER, *self.protected)
            known = self._near[address] = any(_in(address, one) for one in networks)
        return known


def _is_whole(frame: bytes, protocol: int) -> bool:
    """Not too short for its ports and flags."""
    header = {_TCP: _TCP_HEADER, _UDP: _UDP_HEADER}.get(protocol, 0)
    return len(frame) >= _ETHERNET + _IP + header


def _in(address: int, network: IPv4Network) -> bool:
    return address & int(network.netmask) == int(network.network_address)
