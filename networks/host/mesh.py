"""The documents of all private networks → this host's tunnel to the others. Pure.

Hosts that share a network are peers of each other, however many networks they share. A peer is
known by its key, and may send from its own tunnel address alone; one that no document names any
more is taken away, and hears and says nothing from then on. `networks.host.wireguard` makes it so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from networks.spec import TUNNEL_PORT, NetworkSpec, PeerSpec

# Often enough for every NAT on the way to keep the way back open.
KEEPALIVE_SECONDS = 25


@dataclass(frozen=True)
class Mesh:
    """This host's own end, and its peers."""

    address: str
    port: int
    peers: tuple[PeerSpec, ...]


def mesh(specs: Iterable[NetworkSpec]) -> Mesh | None:
    """What the documents add up to; where they disagree, the later ones are right.

    While control tells of a change, document by document, old ones and new ones stand together.
    """
    by_host: dict[str, PeerSpec] = {}
    address: str | None = None
    port = TUNNEL_PORT
    for spec in specs:
        address, port = spec.tunnel_ip or address, spec.port
        for peer in spec.peers:
            by_host.pop(peer.host_uuid, None)  # so that the order is that of the last mention
            by_host[peer.host_uuid] = peer
    if address is None:
        return None
    # A key or an address that moved to another host is not the former's any more.
    by_key = {peer.public_key: peer for peer in by_host.values()}
    by_address = {peer.tunnel_ip: peer for peer in by_key.values()}
    peers = sorted(by_address.values(), key=lambda peer: peer.host_uuid)
    return Mesh(address, port, tuple(peers))


def interface(host_uuid: str) -> str:
    """The tunnel's name: its control socket is the machine's, whatever namespace it is in."""
    return f"cw{host_uuid.replace('-', '')[:13]}"


def configuration(mesh: Mesh, private_key: str) -> str:
    """As `wg syncconf` reads it."""
    lines = ["[Interface]", f"PrivateKey = {private_key}", f"ListenPort = {mesh.port}"]
    for peer in mesh.peers:
        lines += [
            "[Peer]",
            f"PublicKey = {peer.public_key}",
            f"AllowedIPs = {peer.tunnel_ip}/32",
            f"PersistentKeepalive = {KEEPALIVE_SECONDS}",
            *([f"Endpoint = {peer.endpoint}"] if peer.endpoint else []),
        ]
    return "".join(f"{line}\n" for line in lines)
