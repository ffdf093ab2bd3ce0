"""What leads the world's packets to guests: routes to their TAPs, and answers on the uplink.

Towards the uplink the host answers ARP and neighbour discovery for its guests (proxy), so only its
own MAC is ever seen there. For IPv6 the kernel's proxy knows single addresses: it answers for the
first of each network. Where guests are to use more, the router upstream leads the whole pool or
prefix to the host, and nobody asks. Routes and proxies carry a protocol number by which they are
known as ours. What `ensure_*` and `remove_*` do may be repeated.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from pyroute2 import NetlinkError
from pyroute2.netlink.rtnl.ndmsg import NTF_PROXY

from networks.host import addresses
from networks.host.addresses import Address, Network
from networks.host.links import TAP_PREFIX, Tap, Uplink, index_of, set_sysctl, sysctl, unless

# "cu" on a telephone's keys. Not among those of iproute2's rt_protos.
PROTOCOL = 28
KERNEL = 2  # RTPROTKERNEL, rtnetlink(7)
MAIN = 254  # RT_TABLEMAIN
_SCOPE_LINK, _ANY_SCOPE = 253, 255  # RT_SCOPE_LINK, RT_SCOPE_NOWHERE
_ANY_PROTOCOL = 0  # RTPROT_UNSPEC
_INTERFACES6 = Path("/proc/sys/net/ipv6/conf")
_HEARS_ROUTERS, _HEARS_ROUTERS_AS_ONE = "1", "2"  # accept_ra, ip-sysctl.rst


def are_complete(netlink: Any, uplink: Uplink, tap: Tap) -> bool:
    """Whether all that `ensure_routes` makes is there."""
    index = index_of(netlink, tap.name)
    return index is not None and all(
        _leads_to(netlink, addresses.spoken_for(network)) == index
        and _is_spoken_for(netlink, uplink, addresses.spoken_for(network))
        for network in addresses.led_to(tap.nic)
    )


def ensure_routes(netlink: Any, uplink: Uplink, tap: Tap) -> None:
    """Lead the guest's addresses to its interface, and no others."""
    index, wanted = index_of(netlink, tap.name), addresses.led_to(tap.nic)
    _forward(netlink, uplink, six=any(network.version == 6 for network in wanted))
    for network in wanted:
        four = {"scope": _SCOPE_LINK, "prefsrc": uplink.address} if network.version == 4 else {}
        netlink.route("replace", dst=str(network), oif=index, proto=PROTOCOL, **four)
        address = str(addresses.spoken_for(network))
        proxy = {"dst": address, "ifindex": uplink.index, "flags": NTF_PROXY}
        netlink.neigh("replace", protocol=PROTOCOL, **proxy)
    for network in set(routed(netlink, tap.name)) - set(wanted):
        _remove_route(netlink, index, network)
        _fall_silent(netlink, uplink, network)


def remove_routes(netlink: Any, uplink: Uplink | None, name: str, known: Iterable[Network]) -> None:
    """Stop answering for whatever is led to this interface, and for `known` networks."""
    index = index_of(netlink, name)
    gone = {*known, *routed(netlink, name)}
    for network in gone:
        if index is not None:
            _remove_route(netlink, index, network)
        if uplink:
            _fall_silent(netlink, uplink, network)


def routed(netlink: Any, name: str) -> list[Network]:
    """The networks that are led to this interface."""
    index = index_of(netlink, name)
    if index is None:
        return []
    return [
        ip_network((route.get_attr("RTA_DST"), route["dst_len"]))
        for route in netlink.get_routes(oif=index, table=MAIN)
        if route["proto"] != KERNEL
    ]


def proxies(netlink: Any, uplink: Uplink) -> dict[str, bool]:
    """The addresses that the host answers for on its uplink, and whether we told it to."""
    found = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        # Without a filter of its own, pyroute2 leaves the flags to the kernel.
        asked = {"family": family, "flags": NTF_PROXY, "dump_filter": None}
        for entry in netlink.neigh("dump", **asked):
            if entry["ifindex"] == uplink.index:
                found[entry.get_attr("NDA_DST")] = entry.get_attr("NDA_PROTOCOL") == PROTOCOL
    return found


def remove_proxy(netlink: Any, uplink: Uplink, address: str) -> None:
    proxy = {"dst": address, "ifindex": uplink.index, "flags": NTF_PROXY}
    unless(errno.ENOENT, netlink.neigh, "del", **proxy)


def guest_of(netlink: Any, address: Address) -> str | None:
    """The guest's interface that the address is led to; None if it is led to none."""
    index = _leads_to(netlink, address)
    if index is None:
        return None
    (link,) = netlink.link("get", index=index)
    name = str(link.get_attr("IFLA_IFNAME"))
    return name if name.startswith(TAP_PREFIX) else None


def _remove_route(netlink: Any, index: int | None, network: Network) -> None:
    route = {"dst": str(network), "oif": index, "scope": _ANY_SCOPE, "proto": _ANY_PROTOCOL}
    unless(errno.ESRCH, netlink.route, "del", **route)


def _fall_silent(netlink: Any, uplink: Uplink, network: Network) -> None:
    """Unless the network moved on to another guest of this host."""
    address = addresses.spoken_for(network)
    if guest_of(netlink, address) is None:
        remove_proxy(netlink, uplink, str(address))


def _leads_to(netlink: Any, address: Address) -> int | None:
    try:
        (route,) = netlink.route("get", dst=str(address))
    except NetlinkError:  # unreachable in whichever way
        return None
    index = route.get_attr("RTA_OIF")
    return None if index is None else int(index)


def _is_spoken_for(netlink: Any, uplink: Uplink, address: Address) -> bool:
    proxy = {"dst": str(address), "ifindex": uplink.index, "flags": NTF_PROXY}
    return unless(errno.ENOENT, netlink.neigh, "get", **proxy)


def _forward(netlink: Any, uplink: Uplink, *, six: bool) -> None:
    """Have the host pass packets on, and answer for its guests without thinking first.

    By default the kernel thinks for up to 0.8 s before it answers for somebody else.
    """
    set_sysctl("ipv4/ip_forward", "1")
    set_sysctl(f"ipv4/neigh/{uplink.name}/proxy_delay", "0")
    if not six:
        return
    if sysctl("ipv6/conf/all/forwarding") == "0":
        # A router does not listen to routers, and drops what it learned from them, unless told.
        for interface in _INTERFACES6.iterdir():
            if sysctl(f"ipv6/conf/{interface.name}/accept_ra") == _HEARS_ROUTERS:
                set_sysctl(f"ipv6/conf/{interface.name}/accept_ra", _HEARS_ROUTERS_AS_ONE)
        set_sysctl("ipv6/conf/all/forwarding", "1")
    set_sysctl(f"ipv6/conf/{uplink.name}/proxy_ndp", "1")
    set_sysctl(f"ipv6/neigh/{uplink.name}/proxy_delay", "0")
