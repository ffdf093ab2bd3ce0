"""What the host's network holds beyond its documents: found, listed, and removed if it is ours.

Something is ours if it says so itself: an interface by its name and the host in its alias, a table
of rules by its name, a route or an answer on the uplink by its protocol number. Everything else is
somebody else's, and only listed where it is in the way of guests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from networks.host import addresses, links, mesh, nft, routes, rules
from networks.host.links import TAP_PREFIX, Tap, Uplink
from networks.host.nics import NetworkRefused, Surroundings, find_uplink, remove_nics
from networks.host.plan import CABLES

_TAP_KIND = "tun"


class Kind(StrEnum):
    INTERFACE = "interface"
    ROUTE = "route"
    PROXY = "proxy"
    RULES = "rules"


@dataclass(frozen=True)
class Leftover:
    """`name`: of the interface; the network or address; the table's interface."""

    kind: Kind
    name: str
    ours: bool

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + ("" if self.ours else " (not ours)")


@dataclass(frozen=True)
class Sight:
    """What is there: interfaces and proxies, each with whether we made it.

    `routed`: networks by interface; `led`: the interface that the address of a proxy leads to.
    """

    interfaces: dict[str, bool]
    routed: dict[str, tuple[str, ...]]
    proxies: dict[str, bool]
    led: dict[str, str | None]
    tables: frozenset[str]


def look(around: Surroundings) -> Sight:
    """All that could be left over; raises NetworkRefused. Read the documents after it."""
    try:
        with IPRoute() as netlink:
            uplink = find_uplink(netlink, around)
            interfaces = {
                str(link.get_attr("IFLA_IFNAME")): _is_ours(link, around)
                for link in netlink.get_links()
                if link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == _TAP_KIND
                and not str(link.get_attr("IFLA_IFNAME")).startswith(CABLES)
                and link.get_attr("IFLA_IFNAME") != mesh.interface(around.host)
            }
            proxies = routes.proxies(netlink, uplink) if uplink else {}
            return Sight(
                interfaces=interfaces,
                routed={
                    name: tuple(map(str, routes.routed(netlink, name)))
                    for name, ours in interfaces.items()
                    if ours
                },
                proxies=proxies,
                led={name: routes.guest_of(netlink, ip_address(name)) for name in proxies},
                tables=frozenset(nft.tables()),
            )
    except (NetlinkError, OSError) as error:
        raise NetworkRefused(f"the host's network could not be looked through: {error}") from error


def find(seen: Sight, wanted: Collection[Tap]) -> list[Leftover]:
    """What of it belongs to none of the `wanted` interfaces. Pure."""
    nics = {tap.name: tap.nic for tap in wanted}
    led = addresses.public(nics.values())
    networks = set(map(str, led))
    answers = {str(addresses.spoken_for(network)) for network in led}
    found = [
        Leftover(Kind.INTERFACE, name, ours)
        for name, ours in seen.interfaces.items()
        if name not in nics
    ]
    found += [
        Leftover(Kind.ROUTE, f"{network} to {name}", False)
        for name, led in seen.routed.items()
        for network in led
        if name in nics and network not in networks
    ]
    found += [
        Leftover(Kind.PROXY, address, ours and _is_nobodys(seen, address))
        for address, ours in seen.proxies.items()
        if address not in answers
    ]
    owners = (table.removeprefix(rules.TABLE_PREFIX) for table in seen.tables if _names_tap(table))
    found += [
        Leftover(Kind.RULES, name, True)
        for name in owners
        if name not in nics and name not in seen.interfaces
    ]
    return sorted(found, key=str)


def remove(leftovers: Iterable[Leftover], around: Surroundings) -> None:
    """Take away those that are ours; raises NetworkRefused or CommandError."""
    ours = [one for one in leftovers if one.ours]
    remove_nics([one.name for one in ours if one.kind in (Kind.INTERFACE, Kind.RULES)], (), around)
    answers = [one.name for one in ours if one.kind is Kind.PROXY]
    if not answers:
        return
    try:
        with IPRoute() as netlink:
            uplink = find_uplink(netlink, around)
            _remove_proxies(netlink, uplink, answers)
    except (NetlinkError, OSError) as error:
        raise NetworkRefused(f"what is left over could not be removed: {error}") from error


def _remove_proxies(netlink: Any, uplink: Uplink | None, answers: Iterable[str]) -> None:
    for address in answers:
        if uplink:
            routes.remove_proxy(netlink, uplink, address)


def _is_nobodys(seen: Sight, address: str) -> bool:
    """It leads to no interface of another host in this namespace."""
    interface = seen.led.get(address)
    return interface is None or seen.interfaces.get(interface, False)


def _is_ours(link: Any, around: Surroundings) -> bool:
    named = str(link.get_attr("IFLA_IFNAME")).startswith(TAP_PREFIX)
    return named and links.signed(link)[0] == around.host


def _names_tap(table: str) -> bool:
    return table.startswith(f"{rules.TABLE_PREFIX}{TAP_PREFIX}")
