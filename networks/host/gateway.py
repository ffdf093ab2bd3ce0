"""A network's gateway on this host: a namespace of its own, so that networks may overlap.

It has the gateway address of every subnet, on a link into the network's bridge whose MAC is the
same on all hosts: members ask their own host's and never another one's. It routes between the
subnets, along the network's routes to members, and, if the network has egress, to the world by
way of the host, each time under an address of the next one's own (source NAT).
"""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_network
from pathlib import Path
from typing import Any

from msgspec import json, structs
from pyroute2 import IPRoute

from networks.host import links, namespaces, nft, overlay, plan, private_rules, routes
from networks.host.links import index_of, unless
from networks.host.plan import Forwarding, Names
from networks.host.private_rules import EXIT, INSIDE, LINKS
from networks.spec import NetworkSpec

_WORLD = "0.0.0.0/0"
_ONLINK = 4  # RTNH_F_ONLINK, linux/rtnetlink.h
_MAIN = 254  # RT_TABLE_MAIN
# A gateway that said "ask that member yourself" would be right only for guests of this host.
_FORWARDING = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv6/conf/all/disable_ipv6": "1",
    "ipv6/conf/default/disable_ipv6": "1",
}


@dataclass(frozen=True)
class Gateway:
    """Of one network. `place`: a directory for its processes' files; `mtu` in bytes."""

    spec: NetworkSpec
    place: Path
    mtu: int
    host: str

    @property
    def names(self) -> Names:
        return plan.names(self.spec.network_id)


def is_complete(netlink: Any, gateway: Gateway) -> bool:
    """Whether `ensure` made it, from this very document, and its namespace is still there."""
    signed = links.signature(netlink, gateway.names.gateway)
    return signed == (gateway.host, _digest(gateway)) and (
        namespaces.find(gateway.place) is not None
    )


def ensure(netlink: Any, gateway: Gateway, wanted: Forwarding) -> None:
    """Raises NoNamespace, NetlinkError, CommandError or OSError."""
    name, spec = gateway.names, gateway.spec
    keeper, new = namespaces.ensure(gateway.place)
    if new:
        for left in (name.gateway, name.exit):
            links.remove_tap(netlink, left)
    mac = plan.gateway_mac(spec.network_id)
    _ensure_pair(netlink, gateway, name.gateway, INSIDE, keeper, address=mac)
    bridge = index_of(netlink, name.bridge)
    overlay.ensure_port(netlink, name.gateway, bridge, gateway.mtu)
    way_out = _ensure_exit(netlink, gateway, keeper) if spec.egress else None
    if way_out is None:
        links.remove_tap(netlink, name.exit)
    with namespaces.inside(keeper):
        for sysctl, value in _FORWARDING.items():
            links.set_sysctl(sysctl, value)
        nft.apply(private_rules.gateway_rules())
        with IPRoute() as within:
            _furnish(within, gateway, wanted, way_out)
    links.sign(netlink, name.gateway, gateway.host, _digest(gateway))


def know(gateway: Gateway, wanted: Forwarding) -> None:
    """Have the gateway know every member's MAC, as members come and go."""
    keeper = namespaces.find(gateway.place)
    if keeper is not None:
        with namespaces.inside(keeper), IPRoute() as within:
            _know(within, gateway, wanted)


def remove(netlink: Any, name: Names, place: Path) -> None:
    for interface in (name.gateway, name.exit):
        links.remove_tap(netlink, interface)
    namespaces.remove(place)


def _ensure_pair(
    netlink: Any, gateway: Gateway, name: str, inner: str, keeper: int, **peer: str
) -> None:
    """A link from the host into the namespace."""
    if index_of(netlink, name) is None:
        other_end = {"ifname": inner, "net_ns_pid": keeper, **peer}
        netlink.link("add", ifname=name, kind="veth", peer=other_end)
        links.silence(name)
        links.sign(netlink, name, gateway.host, "")


def _ensure_exit(netlink: Any, gateway: Gateway, keeper: int) -> IPv4Network:
    """The link towards the host, with a pair of addresses that no other network has here."""
    name = gateway.names.exit
    _ensure_pair(netlink, gateway, name, EXIT, keeper)
    index = index_of(netlink, name)
    pair = next(iter(_pairs(netlink, index)), None)
    if pair is None:
        pair = _free(_pairs(netlink, None))
        host_end = {"address": str(pair[0]), "prefixlen": pair.prefixlen}
        netlink.addr("add", index=index, **host_end)
    links.set_sysctl("ipv4/ip_forward", "1")
    netlink.link("set", index=index, mtu=gateway.mtu, state="up")
    return pair


def _pairs(netlink: Any, index: int | None) -> set[IPv4Network]:
    asked = {} if index is None else {"index": index}
    found = {
        ip_network((entry.get_attr("IFA_ADDRESS"), entry["prefixlen"]), strict=False)
        for entry in netlink.get_addr(**asked)
        if entry["prefixlen"] == 31
    }
    return {pair for pair in found if isinstance(pair, IPv4Network) and pair.subnet_of(LINKS)}


def _free(taken: set[IPv4Network]) -> IPv4Network:
    """The first and the last block of the range are reserved; RFC 3927, 2.1."""
    low, high = int(LINKS[256]), int(LINKS[-257])
    numbers = range(low, high, 2)
    pairs = (IPv4Network((number, 31)) for number in numbers)
    return next(pair for pair in pairs if pair not in taken)


def _furnish(
    within: Any, gateway: Gateway, wanted: Forwarding, way_out: IPv4Network | None
) -> None:
    """Addresses, neighbours and routes inside."""
    inner = index_of(within, INSIDE)
    within.link("set", index=index_of(within, "lo"), state="up")
    within.link("set", index=inner, mtu=gateway.mtu, state="up")
    _hold(within, gateway.spec, inner)
    _know(within, gateway, wanted)
    ways = {route.destination: route.gateway for route in gateway.spec.routes}
    if way_out is not None:
        exit_index = index_of(within, EXIT)
        within.link("set", index=exit_index, mtu=gateway.mtu, state="up")
        own_end = {"address": str(way_out[1]), "prefixlen": way_out.prefixlen}
        unless(errno.EEXIST, within.addr, "add", index=exit_index, **own_end)
    _lead(within, ways, inner, way_out)


def _hold(within: Any, spec: NetworkSpec, inner: int | None) -> None:
    """The gateway addresses of all subnets, and no others."""
    held = {(subnet.gateway, ip_network(subnet.ip_range).prefixlen) for subnet in spec.subnets}
    seen = {
        (str(entry.get_attr("IFA_LOCAL")), int(entry["prefixlen"]))
        for entry in within.get_addr(index=inner)
        if entry.get_attr("IFA_LOCAL")
    }
    for verb, entries in (("del", seen - held), ("add", held - seen)):
        for address, length in sorted(entries):
            within.addr(verb, index=inner, address=address, prefixlen=length)


def _know(within: Any, gateway: Gateway, wanted: Forwarding) -> None:
    own = plan.gateway_mac(gateway.spec.network_id)
    others = Forwarding(
        neighbours=frozenset(entry for entry in wanted.neighbours if entry[1] != own)
    )
    seen = Forwarding(neighbours=overlay.neighbours(within, INSIDE))
    for change in plan.changes(others, seen):
        overlay.set_neighbour(within, INSIDE, change)


def _lead(
    within: Any, ways: dict[str, str], inner: int | None, way_out: IPv4Network | None
) -> None:
    """The network's routes; the world is out by the host, unless a route says where it is."""
    wanted = {network: (hop, inner) for network, hop in ways.items()}
    if way_out is not None:
        wanted.setdefault(_WORLD, (str(way_out[0]), index_of(within, EXIT)))
    for network in _led(within) - wanted.keys():
        unless(errno.ESRCH, within.route, "del", dst=network)
    for network, (hop, index) in wanted.items():
        way = {"dst": network, "gateway": hop, "oif": index, "flags": _ONLINK}
        within.route("replace", proto=routes.PROTOCOL, **way)


def _led(within: Any) -> set[str]:
    return {
        str(IPv4Network((route.get_attr("RTA_DST") or IPv4Address(0), route["dst_len"])))
        for route in within.get_routes(table=_MAIN)
        if route["proto"] == routes.PROTOCOL
    }


def _digest(gateway: Gateway) -> str:
    """Of what is made once: members come and go without it."""
    lasting = structs.replace(gateway.spec, generation=1, members=(), peers=(), cause=None)
    text = f"{gateway.mtu}\n{private_rules.gateway_rules()}"
    return hashlib.sha256(json.encode(lasting) + text.encode()).hexdigest()[:32]
