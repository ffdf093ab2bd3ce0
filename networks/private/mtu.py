"""How large frames of private networks may be. Pure.

A frame of a guest crosses hosts inside VXLAN (RFC 7348) inside WireGuard, both over IPv4.
"""

from __future__ import annotations

from typing import Final

# IPv4 20, UDP 8, WireGuard's data message 32 (type 4, receiver 4, counter 8, tag 16).
_WIREGUARD: Final = 20 + 8 + 32
# IPv4 20, UDP 8, VXLAN 8, the guest's own Ethernet header 14.
_VXLAN: Final = 20 + 8 + 8 + 14
# What a frame on a VDE switch has room for, beside its Ethernet header.
_VDE: Final = 1500


def private_mtu(fabric: int) -> int:
    """What guests may send, in bytes, where the hosts' own network takes packets of `fabric`."""
    return fabric - _WIREGUARD - _VXLAN


def cabled_mtu(fabric: int) -> int:
    """The same of networks that hosts in user mode are a part of: one for all their guests."""
    return min(private_mtu(fabric), _VDE)
