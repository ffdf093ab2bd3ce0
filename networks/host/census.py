"""What the host's network holds of what we make: looked at once, in a few questions to the kernel.

Unlike `networks.host.leftovers`, which removes what belongs to no document, this judges nothing:
it is what control compares with its inventory. Interfaces of kinds that we never make, and routes
that have nothing to do with guests, are the machine's own and not told.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from networks.host import links, mesh, nft, overlay, plan, routes, rules
from networks.host.bridge_plan import BRIDGE
from networks.host.links import TAP_PREFIX
from networks.host.nics import NetworkRefused, Surroundings, find_uplink
from networks.host.plan import BRIDGES, CABLES, Forwarding

_TAP, _BRIDGE, _VXLAN = "tun", "bridge", "vxlan"


@dataclass(frozen=True)
class Link:
    """An interface. `ours`: this host signed it; `others`: another host of the machine did.

    `open`: some program holds it, which the kernel tells of a TAP by its carrier.
    """

    ours: bool
    others: bool = False
    open: bool = True


@dataclass(frozen=True)
class Census:
    """`routes`: network and interface; `answers`: addresses, and whether we told the kernel to;
    `ruled`: TAPs that have a table of rules; `entries`: by bridge, what was written for it.
    """

    taps: Mapping[str, Link]
    bridges: Mapping[str, Link]
    tunnels: Mapping[str, Link]
    routes: frozenset[tuple[str, str]]
    answers: Mapping[str, bool]
    ruled: frozenset[str]
    entries: Mapping[str, Forwarding] = field(default_factory=dict)

    def guest_of(self, address: str) -> str | None:
        """The interface that an address is led to, by the routes to guests."""
        wanted = ip_address(address)
        for network, interface in self.routes:
            if wanted in ip_network(network):
                return interface
        return None


def look(around: Surroundings) -> Census:
    """Raises NetworkRefused."""
    try:
        with IPRoute() as netlink:
            known = {str(link.get_attr("IFLA_IFNAME")): link for link in netlink.get_links()}
            uplink = find_uplink(netlink, around)
            taps = _of_kind(known, _TAP, around)
            bridges = _of_kind(known, _BRIDGE, around)
            return Census(
                taps={
                    name: link
                    for name, link in taps.items()
                    # Of cables and of the mesh: networks.host.keeping tends them by themselves.
                    if not name.startswith(CABLES) and name != mesh.interface(around.host)
                },
                bridges={name: link for name, link in bridges.items() if name != BRIDGE},
                tunnels=_of_kind(known, _VXLAN, around),
                routes=frozenset(_routes(netlink, known)),
                answers=routes.proxies(netlink, uplink) if uplink else {},
                ruled=frozenset(_ruled()),
                entries=_entries(netlink, known, bridges),
            )
    except (NetlinkError, OSError) as error:
        raise NetworkRefused(f"the host's network could not be looked through: {error}") from error


def _of_kind(known: Mapping[str, Any], kind: str, around: Surroundings) -> dict[str, Link]:
    found = {}
    for name, link in known.items():
        if link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == kind:
            signer = links.signed(link)[0]
            found[name] = Link(
                signer == around.host,
                others=signer not in ("", around.host),
                open=link.get_attr("IFLA_CARRIER") != 0,
            )
    return found


def _routes(netlink: Any, known: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Those to guests, whoever made them."""
    guests = {
        link["index"]: name
        for name, link in known.items()
        if name.startswith(TAP_PREFIX) and "-" in name
    }
    for family in (socket.AF_INET, socket.AF_INET6):
        for route in netlink.get_routes(family=family, table=routes.MAIN):
            interface = guests.get(route.get_attr("RTA_OIF"))
            if interface and route["proto"] != routes.KERNEL:
                yield f"{route.get_attr('RTA_DST')}/{route['dst_len']}", interface


def _ruled() -> Iterator[str]:
    prefix = f"{rules.TABLE_PREFIX}{TAP_PREFIX}"
    for table in nft.tables():
        if table.startswith(prefix):
            yield table.removeprefix(rules.TABLE_PREFIX)


def _entries(
    netlink: Any, known: Mapping[str, Any], bridges: Mapping[str, Link]
) -> dict[str, Forwarding]:
    """Of the bridges of private networks that this host made."""
    ours = [name for name, link in bridges.items() if link.ours and name.startswith(BRIDGES)]
    if not ours:
        return {}
    written = list(netlink.fdb("dump"))
    found = {}
    for bridge in ours:
        index = known[bridge]["index"]
        ports = {
            link["index"]: name
            for name, link in known.items()
            if link.get_attr("IFLA_MASTER") == index
        }
        network_id = plan.network_of(bridge)
        tunnel = known.get(plan.names(network_id).tunnel) if network_id else None
        found[bridge] = overlay.sorted_out(
            written,
            ports,
            tunnel["index"] if tunnel else None,
            overlay.neighbours(netlink, bridge),
        )
    return found
