"""What an interface of the host has, in the words in which it would have to be made again.

Read by `networks.host.bridge` before it moves the uplink.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar

from pyroute2.netlink.rtnl.ndmsg import NUD_PERMANENT

from cloud.errors import CumuletError
from networks.host.bridge_plan import ACCEPT_DAD, ADDR_GEN_MODE, SYSCTLS, Arguments, Interface
from networks.host.links import index_of

SYSCTL = Path("/proc/sys/net")
_FRESH = "default"  # what a new interface starts with
_BY_KERNEL = 2  # RTPROT_KERNEL, rtnetlink(7): comes and goes with an address
_ONLINK = 4  # RTNH_F_ONLINK
_FOREVER = 2**32 - 1
# IFA_F_NODAD, _HOMEADDRESS, _MANAGETEMPADDR, _NOPREFIXROUTE, _MCAUTOJOIN; the kernel sets the
# others.
_CHOSEN_FLAGS = 0x02 | 0x10 | 0x100 | 0x200 | 0x400
# Route attributes in pyroute2's words; those that nothing is known of cannot be made again.
_ROUTE_WORDS = {
    "RTA_GATEWAY": "gateway",
    "RTA_PREFSRC": "prefsrc",
    "RTA_PRIORITY": "priority",
    "RTA_TABLE": "table",
    "RTA_PREF": "pref",
}
_ROUTE_OTHERS = {"RTA_DST", "RTA_OIF", "RTA_CACHEINFO", "RTA_METRICS", "RTA_VIA"}


class CannotBridge(CumuletError):
    """The uplink is set up in a way that cannot be moved to a bridge whole."""

    code: ClassVar[str] = "uplink_not_bridgeable"


def look(netlink: Any, name: str) -> Interface:
    """Raises CannotBridge where something of it could not be made again."""
    index = index_of(netlink, name)
    (link,) = netlink.link("get", index=index)
    addresses = tuple(_address(message) for message in netlink.get_addr(index=index))
    sources = {address["address"] for address in addresses}
    routes, dependants = [], []
    for message in _routes(netlink):
        if index in _interfaces(message):
            routes.append(_route(message))
        elif message.get_attr("RTA_PREFSRC") in sources:
            (other,) = netlink.link("get", index=message.get_attr("RTA_OIF"))
            dependants.append((str(other.get_attr("IFLA_IFNAME")), _route(message)))
    return Interface(
        name=name,
        mac=str(link.get_attr("IFLA_ADDRESS")),
        mtu=int(link.get_attr("IFLA_MTU")),
        addresses=addresses,
        routes=tuple(routes),
        neighbours=tuple(_neighbours(netlink, index)),
        dependants=tuple(dependants),
        sysctls=_sysctls(name),
        accept_dad=_sysctl(ACCEPT_DAD, name) or "0",
        addr_gen_mode=_sysctl(ADDR_GEN_MODE, name) or "0",
    )


def _address(message: Any) -> Arguments:
    attributes = dict(message["attrs"])
    address: Arguments = {
        "family": message["family"],
        "address": attributes["IFA_ADDRESS"],
        "prefixlen": message["prefixlen"],
        "scope": message["scope"],
        "flags": attributes["IFA_FLAGS"] & _CHOSEN_FLAGS,
    }
    for name, word in {
        "IFA_LOCAL": "local",
        "IFA_BROADCAST": "broadcast",
        "IFA_LABEL": "label",
        "IFA_RT_PRIORITY": "rt_priority",
        "IFA_PROTO": "proto",
    }.items():
        if name in attributes:
            address[word] = attributes[name]
    lifetimes = attributes["IFA_CACHEINFO"]
    if lifetimes["ifa_valid"] != _FOREVER:
        address["preferred_lft"] = lifetimes["ifa_preferred"]
        address["valid_lft"] = lifetimes["ifa_valid"]
    return address


def _routes(netlink: Any) -> list[Any]:
    """Of all tables, but for what the kernel makes by itself."""
    return [
        message
        for family in (socket.AF_INET, socket.AF_INET6)
        for message in netlink.get_routes(family=family)
        if message["proto"] != _BY_KERNEL
    ]


def _interfaces(message: Any) -> list[int]:
    """That the route leads to: more than one if it has several next hops."""
    hops = [hop["oif"] for hop in message.get_attr("RTA_MULTIPATH") or []]
    return [message.get_attr("RTA_OIF"), *hops]


def _route(message: Any) -> Arguments:
    attributes = dict(message["attrs"])
    unknown = sorted(attributes.keys() - _ROUTE_WORDS.keys() - _ROUTE_OTHERS)
    destination = _destination(message)
    if unknown:
        raise CannotBridge(
            f"the route to {destination} has {', '.join(unknown)}, which cannot be moved to a"
            " bridge: take it away, or leave CUMULET_HOST_BRIDGE off"
        )
    route: Arguments = {
        "family": message["family"],
        "dst": destination,
        "proto": message["proto"],
        "scope": message["scope"],
        "type": message["type"],
        "tos": message["tos"],
        **{_ROUTE_WORDS[name]: attributes[name] for name in attributes if name in _ROUTE_WORDS},
    }
    if message["flags"] & _ONLINK:
        route["flags"] = _ONLINK
    if "RTA_VIA" in attributes:
        route["via"] = attributes["RTA_VIA"]
    if "RTA_METRICS" in attributes:
        route["metrics"] = {
            name.removeprefix("RTAX_").lower(): value
            for name, value in attributes["RTA_METRICS"]["attrs"]
        }
    return route


def _destination(message: Any) -> str:
    destination = message.get_attr("RTA_DST")
    return f"{destination}/{message['dst_len']}" if destination else "default"


def _neighbours(netlink: Any, index: int | None) -> list[Arguments]:
    """Those that somebody entered; the others are found again."""
    return [
        {
            "family": entry["family"],
            "dst": entry.get_attr("NDA_DST"),
            "lladdr": entry.get_attr("NDA_LLADDR"),
            "state": NUD_PERMANENT,
        }
        for entry in netlink.get_neighbours(ifindex=index)
        if entry["state"] == NUD_PERMANENT
        and not ip_address(entry.get_attr("NDA_DST")).is_multicast
    ]


def _sysctls(name: str) -> dict[str, str]:
    values = {sysctl: _sysctl(sysctl, name) for sysctl in SYSCTLS}
    return {
        sysctl: value
        for sysctl, value in values.items()
        if value is not None and value != _sysctl(sysctl, _FRESH)
    }


def _sysctl(sysctl: str, name: str) -> str | None:
    path = SYSCTL / sysctl.format(name)
    return path.read_text().strip() if path.exists() else None
