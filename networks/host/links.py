"""TAP interfaces of routed guests, by netlink.

Every NIC is a TAP of its own with a host route to the guest's address. The guest's gateway is an
address on the TAP; towards the uplink the host answers ARP for the guest (proxy), so only the
host's MAC is ever seen there. What `ensure_*` and `remove_*` do may be repeated.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, ClassVar

from pyroute2 import NetlinkError
from pyroute2.netlink.rtnl.ndmsg import NTF_PROXY

from cloud.errors import CumuletError
from networks.spec import NicSpec

_SYSCTL = Path("/proc/sys/net")
_SCOPE_LINK = 253  # RT_SCOPE_LINK, rtnetlink(7)


class NoUplink(CumuletError):
    """There is no interface that guests could be reached through."""

    code: ClassVar[str] = "uplink_missing"
    retryable: ClassVar[bool] = True


@dataclass(frozen=True)
class Uplink:
    """The interface towards the world: its first address, and the networks it is in."""

    name: str
    index: int
    address: str
    networks: tuple[IPv4Network, ...]


@dataclass(frozen=True)
class Tap:
    """A NIC's interface on the host; `owner`: the uid that may open it (None: root's alone)."""

    name: str
    nic: NicSpec
    owner: int | None

    @property
    def bridged(self) -> bool:
        return self.nic.mode == "public_bridged"


def find_uplink(netlink: Any, name: str | None) -> Uplink:
    """The named interface, else the one of the default route; raises NoUplink."""
    index = index_of(netlink, name) if name else _default_interface(netlink)
    if index is None:
        raise NoUplink(
            f"there is no interface {name!r}: correct CUMULET_HOST_UPLINK"
            if name
            else "there is no default route: set CUMULET_HOST_UPLINK to the outward interface"
        )
    addresses = list(netlink.get_addr(family=socket.AF_INET, index=index))
    if not addresses:
        raise NoUplink(f"interface {name or index} has no IPv4 address: configure one")
    (link,) = netlink.link("get", index=index)
    return Uplink(
        name=str(link.get_attr("IFLA_IFNAME")),
        index=index,
        address=str(addresses[0].get_attr("IFA_LOCAL")),
        networks=tuple(
            IPv4Network((entry.get_attr("IFA_ADDRESS"), entry["prefixlen"]), strict=False)
            for entry in addresses
        ),
    )


def is_complete(netlink: Any, uplink: Uplink, tap: Tap) -> bool:
    """Whether all that `ensure_tap` and `ensure_routes` make is there."""
    index = index_of(netlink, tap.name)
    if index is None:
        return False
    routed = _route_to(netlink, tap.nic.ipv4) == index
    proxy = {"dst": tap.nic.ipv4, "ifindex": uplink.index, "flags": NTF_PROXY}
    return routed and _unless(errno.ENOENT, netlink.neigh, "get", **proxy)


def ensure_tap(netlink: Any, tap: Tap) -> None:
    """Make the interface, still down: nothing passes before it has its rules."""
    if index_of(netlink, tap.name) is not None:
        return
    owner = {} if tap.owner is None else {"uid": tap.owner}
    made = {"ifname": tap.name, "kind": "tuntap", "mode": "tap", **owner}
    _unless(errno.EBUSY, netlink.link, "add", **made)
    # On a guest's link the host itself answers ARP and nothing else.
    _set(f"ipv6/conf/{tap.name}/disable_ipv6", "1")


def ensure_routes(netlink: Any, uplink: Uplink, tap: Tap) -> None:
    """Raise the interface and lead the guest's address to it."""
    index, nic = index_of(netlink, tap.name), tap.nic
    netlink.link("set", index=index, address=host_mac(nic), mtu=nic.mtu, state="up")
    gateway = {"address": nic.gateway, "prefixlen": 32, "scope": _SCOPE_LINK}
    _unless(errno.EEXIST, netlink.addr, "add", index=index, **gateway)
    route = {"dst": f"{nic.ipv4}/32", "scope": _SCOPE_LINK, "prefsrc": uplink.address}
    netlink.route("replace", oif=index, **route)
    _set("ipv4/ip_forward", "1")
    # By default the kernel thinks for up to 0.8 s before it answers for somebody else.
    _set(f"ipv4/neigh/{uplink.name}/proxy_delay", "0")
    netlink.neigh("replace", dst=nic.ipv4, ifindex=uplink.index, flags=NTF_PROXY)


def remove_tap(netlink: Any, uplink: Uplink | None, name: str, addresses: Iterable[str]) -> None:
    """Stop answering for the guest and take its interface away, with its routes.

    `addresses`: those that the guest is known to have; routes may tell of more.
    """
    index = index_of(netlink, name)
    gone = set(addresses)
    if index is not None:
        routes = netlink.get_routes(family=socket.AF_INET, oif=index, table=254)
        gone.update(str(route.get_attr("RTA_DST")) for route in routes)
    if uplink:
        for address in gone:
            proxy = {"dst": address, "ifindex": uplink.index, "flags": NTF_PROXY}
            _unless(errno.ENOENT, netlink.neigh, "del", **proxy)
    if index is not None:
        _unless(errno.ENODEV, netlink.link, "del", index=index)


def index_of(netlink: Any, name: str) -> int | None:
    found = netlink.link_lookup(ifname=name)
    return int(found[0]) if found else None


def _default_interface(netlink: Any) -> int | None:
    for route in netlink.get_default_routes(family=socket.AF_INET):
        index = route.get_attr("RTA_OIF")
        if index is not None:
            return int(index)
    return None


def _route_to(netlink: Any, address: str | None) -> int | None:
    try:
        (route,) = netlink.route("get", dst=address)
    except NetlinkError:  # unreachable in whichever way
        return None
    index = route.get_attr("RTA_OIF")
    return None if index is None else int(index)


def host_mac(nic: NicSpec) -> str:
    """The host's end of the link: the guest's MAC under a first byte that no guest gets."""
    return f"fe{nic.mac[2:]}"


def _unless(code: int, change: Callable[..., object], *arguments: Any, **more: Any) -> bool:
    """Make a change; False if the kernel says `code`, which means there is nothing to do."""
    try:
        change(*arguments, **more)
    except NetlinkError as error:
        if error.code != code:
            raise
        return False
    return True


def _set(name: str, value: str) -> None:
    """Write a sysctl of this namespace if it is another one; skip what the kernel lacks."""
    path = _SYSCTL / name
    if path.exists() and path.read_text().strip() != value:
        path.write_text(value)
