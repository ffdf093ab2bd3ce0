"""A gateway's port for cables: a TAP in the network's bridge, whose other end is a VDE switch.

Guests behind cables are members at that port: the bridge learns nothing from it, and its rules let
in what they may say and no more, before the switch is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from networks.host import cable_rules, links, nft, overlay, plan, rules, switches
from networks.host.links import Tap, index_of
from networks.host.switches import Switch
from networks.spec import MemberSpec, NetworkSpec, NicSpec

_WORLD = "0.0.0.0/0"
_NOT_FIRST = 1


@dataclass(frozen=True)
class Port:
    """`mtu` in bytes."""

    spec: NetworkSpec
    mtu: int
    host: str

    @property
    def name(self) -> str:
        return plan.names(self.spec.network_id).cables


def as_taps(spec: NetworkSpec, members: Sequence[MemberSpec], mtu: int) -> list[Tap]:
    """Members behind cables as if each had an interface here: for the gateway's DHCP server.

    It gives them no default route, as only their own host knows which of a guest's NICs leads out.
    """
    subnets = {ip_network(subnet.ip_range): subnet.gateway for subnet in spec.subnets}
    ways = (route.destination for route in spec.routes if route.destination != _WORLD)
    routes = tuple(dict.fromkeys((spec.ip_range, *ways)))
    taps = []
    for member in members:
        address = member.addresses[0]
        own = next((one for one in subnets if ip_address(address) in one), None)
        if own is None:
            continue
        nic = NicSpec(
            nic_id=1,
            index=_NOT_FIRST,
            mac=member.mac,
            mode="private",
            ipv4=address,
            prefix4=own.prefixlen,
            gateway=subnets[own],
            mtu=mtu,
            network_id=spec.network_id,
            routes=tuple(route for route in routes if route != str(own)),
        )
        name = f"{plan.CABLES}{member.mac.replace(':', '')}"
        taps.append(Tap(name, nic, None, spec))
    return taps


def ensure(netlink: Any, port: Port, switch: Switch, members: Sequence[MemberSpec]) -> None:
    """The bridge must be there. Raises VdeMissing, SwitchFailed, CommandError, NetlinkError or
    OSError.
    """
    bridge = index_of(netlink, plan.names(port.spec.network_id).bridge)
    assert bridge is not None, "the caller made it"
    text = cable_rules.port_rules(port.spec, members)
    made_from = hashlib.sha256(f"{port.mtu}\n{text}".encode()).hexdigest()[:32]
    signed = links.signature(netlink, port.name) == (port.host, made_from)
    if not (signed and overlay.is_port(netlink, port.name, bridge)):
        if index_of(netlink, port.name) is None:
            switches.remove(switch)  # one that runs holds an interface that is gone
        owner = switch.owner.uid if switch.owner else None
        links.ensure_tap(netlink, port.name, owner, port.host)
        nft.apply(text)
        overlay.ensure_port(netlink, port.name, bridge, port.mtu)
        links.sign(netlink, port.name, port.host, made_from)
    switches.ensure(switch)


def remove(netlink: Any, name: str, switch: Switch) -> None:
    """Nothing comes in by cables any more."""
    switches.remove(switch)
    if index_of(netlink, name) is not None:
        links.remove_tap(netlink, name)
    if nft.tables_of([rules.nic_table(name)]):
        nft.apply(rules.no_nic_rules(name))
