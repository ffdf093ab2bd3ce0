"""A VM's NICs on this host, each with its link and its rules: what `vms.host` calls.

A guest can send nothing before its rules are in place, because its interface is down until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, ClassVar

from pyroute2 import IPRoute, NetlinkError

from cloud.errors import CumuletError
from networks.host import bridge, bridge_rules, links, nft, rules
from networks.host.links import NoUplink, Tap, Uplink
from networks.spec import Presence


class NetworkRefused(CumuletError):
    """The kernel refused a change of the host's network."""

    code: ClassVar[str] = "network_refused"
    retryable: ClassVar[bool] = True


@dataclass(frozen=True)
class Surroundings:
    """What guests are connected to. None for `protected`: the networks that the uplink is in."""

    uplink: str | None
    protected: tuple[IPv4Network, ...] | None = None


def uplink_address(around: Surroundings) -> str | None:
    """The host's own address on its uplink; None without one."""
    with IPRoute() as netlink:
        uplink = _uplink(netlink, around)
    return uplink.address if uplink else None


def presence(taps: Sequence[Tap], around: Surroundings) -> Presence:
    """How much of these interfaces and their rules is there; raises NetworkRefused."""
    try:
        with IPRoute() as netlink:
            tables = nft.tables()
            seen = [tap for tap in taps if links.index_of(netlink, tap.name) is not None]
            ruled = [tap for tap in taps if rules.nic_table(tap.name) in tables]
            if not seen and not ruled:
                return Presence.NONE
            uplink = _uplink(netlink, around)
            complete = uplink and all(_is_connected(netlink, uplink, tap) for tap in taps)
    except (NetlinkError, OSError) as error:
        raise _refused(error) from error
    return Presence.ALL if complete and len(ruled) == len(taps) else Presence.PART


def ensure_nics(taps: Sequence[Tap], around: Surroundings) -> None:
    """Make the interfaces as they must be. Raises NoUplink, NetworkRefused or CommandError."""
    try:
        with IPRoute() as netlink:
            uplink = links.find_uplink(netlink, around.uplink)
            for tap in taps:
                links.ensure_tap(netlink, tap)
            protected = uplink.networks if around.protected is None else around.protected
            texts = [_rules(tap) for tap in taps]
            if any(tap.bridged for tap in taps):
                texts.append(bridge_rules.host_rules(bridge.mac(netlink)))
            nft.apply("".join([rules.host_rules(protected), *texts]))
            for tap in taps:
                _connect(netlink, uplink, tap)
    except (NetlinkError, OSError) as error:
        raise _refused(error) from error


def learn(tap: Tap) -> tuple[str, ...]:
    """The addresses that the guest got from the outside network; the last lease holds alone.

    A guest that took none tells by ARP what it uses. Raises CommandError.
    """
    found = nft.elements("netdev", rules.nic_table(tap.name))
    leased, spoken, spoken6 = (
        found.get(name, [])
        for name in (bridge_rules.LEARNED, bridge_rules.SPOKEN, bridge_rules.SPOKEN6)
    )
    if leased[1:]:
        nft.apply(bridge_rules.forget(tap.name, leased[1:]))
    return (*(leased[:1] or spoken), *spoken6)


def remove_nics(names: Sequence[str], addresses: Iterable[str], around: Surroundings) -> None:
    """Leave nothing of these interfaces, nor of what led `addresses` to them.

    Raises NetworkRefused or CommandError.
    """
    known = set(addresses)
    try:
        with IPRoute() as netlink:
            uplink = _uplink(netlink, around)
            for name in names:
                links.remove_tap(netlink, uplink, name, known)
        tables = nft.tables()
    except (NetlinkError, OSError) as error:
        raise _refused(error) from error
    ruled = [name for name in names if rules.nic_table(name) in tables]
    if ruled:
        nft.apply("".join(map(rules.no_nic_rules, ruled)))


def _rules(tap: Tap) -> str:
    if tap.bridged:
        return bridge_rules.nic_rules(tap.name, tap.nic)
    return rules.nic_rules(tap.name, tap.nic)


def _connect(netlink: Any, uplink: Uplink, tap: Tap) -> None:
    if tap.bridged:
        bridge.ensure_port(netlink, tap)
    else:
        links.ensure_routes(netlink, uplink, tap)


def _is_connected(netlink: Any, uplink: Uplink, tap: Tap) -> bool:
    if tap.bridged:
        return bridge.is_port(netlink, tap)
    return links.is_complete(netlink, uplink, tap)


def _uplink(netlink: Any, around: Surroundings) -> Uplink | None:
    with suppress(NoUplink):
        return links.find_uplink(netlink, around.uplink)
    return None


def _refused(error: Exception) -> NetworkRefused:
    return NetworkRefused(f"the kernel refused a change of the host's network: {error}")
