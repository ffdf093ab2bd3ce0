"""How large frames of private networks may be. Pure.

A frame of a guest crosses hosts inside VXLAN (RFC 7348) inside WireGuard. The tunnels' outer
packets may be IPv6 whatever they carry, so that is reckoned with.
"""

from __future__ import annotations

from typing import Final

# IPv6 40, UDP 8, WireGuard's data message 32 (4 type, 4 receiver, 8 counter, 16 tag).
WIREGUARD: Final = 40 + 8 + 32
# IP 20 or 40, UDP 8, VXLAN 8, the guest's own Ethernet header 14.
_VXLAN: Final = {4: 20 + 8 + 8 + 14, 6: 40 + 8 + 8 + 14}


def private_mtu(fabric: int, tunnel_version: int = 4) -> int:
    """What guests may send, in bytes, where the hosts' own network takes `fabric`.

    `tunnel_version`: of IP, by which hosts have addresses inside the mesh.
    """
    return fabric - WIREGUARD - _VXLAN[tunnel_version]
