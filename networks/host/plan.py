"""NetworkSpec → what must be in the kernel for it, and wanted against seen → what to change. Pure.

A network on one host is a bridge with these ports: the TAPs of its members, a VXLAN device
towards other hosts (inside the mesh, `networks.host.mesh`), a link into a namespace of its own
that plays the gateway (`networks.host.gateway`), and where hosts in user mode are to be reached
through this one, a TAP of the switch of their cables (`networks.host.cable_port`). Everything that
the kernel would otherwise learn from guests is written from the document: where a MAC is, and which
MAC an address has. So a guest can poison nothing, and what a change costs is what it changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from networks.spec import MemberSpec, NetworkSpec, NicSpec

# Outer IPv4, UDP and VXLAN headers, and the inner Ethernet header; RFC 7348.
VXLAN_BYTES = 50
# Outer IPv4, UDP, and WireGuard's header and authenticator.
WIREGUARD_BYTES = 60
VXLAN_PORT = 4789
# Broadcast, multicast and whatever is unknown goes to each of these one by one.
EVERYBODY = "00:00:00:00:00:00"
BRIDGES, TUNNELS, GATEWAYS, EXITS, CABLES = "cb", "cv", "cg", "ce", "cc"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Names:
    """The interfaces of a network: at most 15 bytes for every possible id.

    `exit` leads from the gateway's namespace to the world, if anything does; `cables` to the
    switch that cables from hosts in user mode end at, if this host is their gateway.
    """

    bridge: str
    tunnel: str
    gateway: str
    exit: str
    cables: str


@dataclass(frozen=True)
class Forwarding:
    """Where frames go, and who has an address.

    tunnels: MAC and the tunnel address of its host; ports: MAC and the bridge's port;
    neighbours: address and MAC.
    """

    tunnels: frozenset[tuple[str, str]] = frozenset()
    ports: frozenset[tuple[str, str]] = frozenset()
    neighbours: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Change:
    """One entry of a table to add or to remove."""

    verb: Literal["add", "remove"]
    table: Literal["tunnels", "ports", "neighbours"]
    key: str
    value: str


def names(network_id: int) -> Names:
    number = _base36(network_id)
    return Names(*(f"{kind}{number}" for kind in (BRIDGES, TUNNELS, GATEWAYS, EXITS, CABLES)))


def network_of(interface: str) -> int | None:
    """Whose bridge, tunnel, gateway, exit or port of cables it is by its name."""
    kind, number = interface[:2], interface[2:]
    if kind not in (BRIDGES, TUNNELS, GATEWAYS, EXITS, CABLES):
        return None
    if not number or set(number) - set(_DIGITS) or number.startswith("0"):
        return None
    network_id = int(number, 36)
    return network_id if network_id < 2**53 else None


def gateway_mac(network_id: int) -> str:
    """The same on every host. Its first byte is not that of a TAP (`links.host_mac`)."""
    number = network_id & (1 << 40) - 1
    return ":".join(f"{byte:02x}" for byte in (0xFA, *number.to_bytes(5, "big")))


def mtu(spec: NetworkSpec, uplink: int) -> int:
    """What guests may send, in bytes, where the uplink takes packets of `uplink` bytes."""
    most = tunnel_mtu(uplink) - VXLAN_BYTES
    return most if spec.mtu is None else min(spec.mtu, most)


def tunnel_mtu(uplink: int) -> int:
    return uplink - WIREGUARD_BYTES


def wanted(spec: NetworkSpec, local: Iterable[tuple[str, str]]) -> Forwarding:
    """`local`: MAC and TAP of the members on this host, by the documents of their VMs."""
    name, own = names(spec.network_id), gateway_mac(spec.network_id)
    hosts = {peer.host_uuid: peer.tunnel_ip for peer in spec.peers}
    remote = {
        member.mac: hosts[member.host_uuid] for member in spec.members if member.host_uuid in hosts
    }
    here = {mac: tap for mac, tap in local if mac not in remote}
    told = hosts.keys() | {spec.host_uuid}
    return Forwarding(
        tunnels=frozenset(remote.items()) | {(EVERYBODY, host) for host in set(remote.values())},
        ports=frozenset({(own, name.gateway)})
        | {(mac, name.tunnel) for mac in remote}
        | {(member.mac, name.cables) for member in cabled(spec, here)}
        | frozenset(here.items()),
        neighbours=frozenset((subnet.gateway, own) for subnet in spec.subnets)
        | {
            (address, member.mac)
            for member in spec.members
            if member.host_uuid in told
            for address in member.addresses
        },
    )


def cabled(spec: NetworkSpec, here: Collection[str]) -> list[MemberSpec]:
    """Members behind cables: told as this host's own, and not among the MACs `here`."""
    if spec.cables is None:
        return []
    return [
        member
        for member in spec.members
        if member.host_uuid == spec.host_uuid and member.mac not in here
    ]


def changes(wanted: Forwarding, seen: Forwarding) -> list[Change]:
    """In an order in which no frame goes astray: a new place before the old one is forgotten."""
    return [
        *_changes("tunnels", wanted.tunnels, seen.tunnels),
        *_changes("ports", wanted.ports, seen.ports),
        *_changes("neighbours", wanted.neighbours, seen.neighbours),
    ]


def _changes(
    table: Literal["tunnels", "ports", "neighbours"],
    wanted: Collection[tuple[str, str]],
    seen: Collection[tuple[str, str]],
) -> list[Change]:
    """A key of a neighbour, a port or a unicast tunnel has one value, which `add` replaces."""
    replaced = {key for key, _ in wanted if key != EVERYBODY}
    return [
        *(Change("add", table, *entry) for entry in sorted(set(wanted) - set(seen))),
        *(
            Change("remove", table, key, value)
            for key, value in sorted(set(seen) - set(wanted))
            if key not in replaced
        ),
    ]


def forwarded_for(spec: NetworkSpec, nic: NicSpec) -> list[str]:
    """Networks that the NIC's guest sends packets from, besides its own: those led to it."""
    own = {nic.ipv4, *nic.floating}
    return [route.destination for route in spec.routes if route.gateway in own]


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"
