"""A VM's NICs on this host, each with its link and its rules: what `vms.host` calls.

A guest can send nothing before its rules are in place, because its interface is down until then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from msgspec import json
from pyroute2 import IPRoute, NetlinkError

from cloud.errors import CumuletError
from networks.host import addresses, announce, firewall, limits, links, nft, routes, rules
from networks.host.addresses import Network
from networks.host.links import NoUplink, Tap, Uplink
from networks.spec import NicReport, NicSpec, Presence


class NetworkRefused(CumuletError):
    """The kernel refused a change of the host's network."""

    code: ClassVar[str] = "network_refused"
    retryable: ClassVar[bool] = True


class ModeUnsupported(CumuletError):
    """This host does not know how to connect a NIC of that kind."""

    code: ClassVar[str] = "network_mode_unsupported"


@dataclass(frozen=True)
class Surroundings:
    """What guests are connected to. None for `protected`: the networks that the uplink is in.

    `host`: the UUID that the host's interfaces are signed with.
    """

    uplink: str | None
    protected: tuple[Network, ...] | None = None
    host: str = "-"


def uplink_address(around: Surroundings) -> str | None:
    """The host's own address on its uplink; None without one."""
    with IPRoute() as netlink:
        uplink = find_uplink(netlink, around)
    return uplink.address if uplink else None


def presence(taps: Sequence[Tap], around: Surroundings) -> Presence:
    """How much of what these NICs must be is there; raises NetworkRefused.

    ALL: they are as `taps` say, and not as an older document or an older release said.
    """
    try:
        with IPRoute() as netlink:
            seen = [tap for tap in taps if links.index_of(netlink, tap.name) is not None]
            ruled = [tap for tap in taps if _is_ruled(tap.name)]
            if not seen and not ruled:
                return Presence.NONE
            uplink = find_uplink(netlink, around)
            if uplink is None or len(ruled) < len(taps):
                return Presence.PART
            complete = all(_is_complete(netlink, uplink, around, tap) for tap in taps)
    except (NetlinkError, OSError) as error:
        raise _refused(error) from error
    return Presence.ALL if complete else Presence.PART


def ensure_nics(taps: Sequence[Tap], around: Surroundings) -> None:
    """Make the interfaces as they must be; guests that run notice nothing but the difference.

    Raises NoUplink, NetworkRefused, ModeUnsupported or CommandError.
    """
    for tap in taps:
        _check_mode(tap.nic)
    try:
        with IPRoute() as netlink:
            uplink = links.find_uplink(netlink, around.uplink)
            for tap in taps:
                links.ensure_tap(netlink, tap, around.host)
            changed = [tap for tap in taps if not _is_signed(netlink, uplink, around, tap)]
            nft.apply(host_text(uplink, around) + nic_texts(taps))
            for tap in taps:
                _connect(netlink, uplink, tap)
            announce.announce(
                uplink,
                [
                    addresses.spoken_for(network)
                    for tap in changed
                    for network in addresses.led_to(tap.nic)
                ],
            )
            # Last, so that whatever a crash left undone is done again.
            for tap in changed:
                made_from = _digest(uplink, around, tap.nic)
                links.sign(netlink, tap.name, around.host, made_from)
    except (NetlinkError, OSError) as error:
        raise _refused(error) from error


def remove_nics(names: Sequence[str], known: Iterable[Network], around: Surroundings) -> None:
    """Leave nothing of these interfaces, nor of what led `known` networks to them.

    Raises NetworkRefused or CommandError.
    """
    led = set(known)
    try:
        with IPRoute() as netlink:
            uplink = find_uplink(netlink, around)
            for name in names:
                routes.remove_routes(netlink, uplink, name, led)
                links.remove_tap(netlink, name)
        tables = nft.tables_of(rules.nic_table(name) for name in names)
    except (NetlinkError, OSError) as error:
        raise _refused(error) from error
    ruled = [name for name in names if rules.nic_table(name) in tables]
    if ruled:
        nft.apply(firewall.no_nic_rules(ruled) + "".join(map(rules.no_nic_rules, ruled)))


def reports(taps: Sequence[Tap]) -> tuple[NicReport, ...]:
    """What was seen at these NICs; raises NetworkRefused."""
    try:
        with nft.asking(nft.NETDEV) as netfilter:
            return tuple(NicReport(tap.nic.index, dropped=_dropped(netfilter, tap)) for tap in taps)
    except (NetlinkError, OSError) as error:
        raise _refused(error) from error


def host_text(uplink: Uplink, around: Surroundings) -> str:
    """The rules of the host itself, which those of NICs build on."""
    return firewall.host_rules(uplink.networks if around.protected is None else around.protected)


def nic_texts(taps: Sequence[Tap]) -> str:
    """All rules of these NICs."""
    sent = [rules.nic_rules(tap.name, tap.nic) for tap in taps]
    return "".join(sent) + firewall.nic_rules({tap.name: tap.nic.firewall for tap in taps})


def find_uplink(netlink: Any, around: Surroundings) -> Uplink | None:
    with suppress(NoUplink):
        return links.find_uplink(netlink, around.uplink)
    return None


def _check_mode(nic: NicSpec) -> None:
    if nic.mode != "public_routed":
        raise ModeUnsupported(f"this host connects no NIC of mode {nic.mode}: place it elsewhere")


def _connect(netlink: Any, uplink: Uplink, tap: Tap) -> None:
    """Everything but the rules, which are there before. Here the mode of the NIC decides."""
    links.raise_tap(netlink, tap)
    limits.ensure_limit(netlink, tap.name, tap.nic.mbit_in)
    routes.ensure_routes(netlink, uplink, tap)


def _is_complete(netlink: Any, uplink: Uplink, around: Surroundings, tap: Tap) -> bool:
    signed = _is_signed(netlink, uplink, around, tap)
    return signed and routes.are_complete(netlink, uplink, tap)


def _is_signed(netlink: Any, uplink: Uplink, around: Surroundings, tap: Tap) -> bool:
    wanted = around.host, _digest(uplink, around, tap.nic)
    return links.signature(netlink, tap.name) == wanted


def _digest(uplink: Uplink, around: Surroundings, nic: NicSpec) -> str:
    """Of all that a NIC is made from: its document, and the rules as this release writes them."""
    text = host_text(uplink, around) + nic_texts([Tap("nic", nic, None)])
    return hashlib.sha256(json.encode(nic) + text.encode()).hexdigest()[:32]


def _is_ruled(name: str) -> bool:
    with nft.asking(nft.INET) as passing, nft.asking(nft.NETDEV) as sent:
        return nft.chain_exists(
            passing, firewall.HOST_TABLE, firewall.arriving(name)
        ) and nft.chain_exists(sent, rules.nic_table(name), rules.ENTRY)


def _dropped(netfilter: Any, tap: Tap) -> dict[str, int]:
    found = nft.counters(netfilter, rules.nic_table(tap.name))
    return {name.removeprefix(rules.COUNTER_PREFIX): packets for name, packets in found.items()}


def _refused(error: Exception) -> NetworkRefused:
    return NetworkRefused(f"the kernel refused a change of the host's network: {error}")
