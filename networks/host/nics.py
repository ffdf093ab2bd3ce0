"""A VM's NICs on this host, each with its link and its rules: what `vms.host` calls.

A guest can send nothing before its rules are in place, because its interface is down until then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from msgspec import json
from pyroute2 import IPRoute, NetlinkError

from cloud.errors import CumuletError
from networks.host import (
    addresses,
    announce,
    bridge,
    bridge_firewall,
    bridge_rules,
    firewall,
    limits,
    links,
    nft,
    private,
    routes,
    rules,
    written,
)
from networks.host.addresses import Network
from networks.host.bridge_firewall import Leads
from networks.host.bridge_plan import BRIDGE
from networks.host.links import NoUplink, Tap, Uplink
from networks.spec import MOST_LEARNED, NicReport, NicSpec, Presence

# Asks the guest itself, if it can be asked, which addresses a NIC has.
Told = Callable[[NicSpec], Sequence[str]]


class NetworkRefused(CumuletError):
    """The kernel refused a request about the host's network."""

    code: ClassVar[str] = "network_refused"
    retryable: ClassVar[bool] = True


@dataclass(frozen=True)
class Surroundings:
    """What guests are connected to. None for `protected`: the networks that the host is in.

    `host`: the UUID that the host's interfaces are signed with.
    """

    uplink: str | None
    protected: tuple[Network, ...] | None = None
    host: str = "-"


def uplink_address(around: Surroundings) -> str | None:
    """The host's own address on its uplink; None without one. Raises NetworkRefused."""
    try:
        with IPRoute() as netlink:
            uplink = find_uplink(netlink, around)
    except (NetlinkError, OSError) as error:
        raise _refused(error) from error
    return uplink.address if uplink else None


def cut(names: Sequence[str]) -> None:
    """Pull these interfaces out of whatever they are in; raises NetworkRefused."""
    try:
        with IPRoute() as netlink:
            for name in names:
                private.cut(netlink, name)
    except (NetlinkError, OSError) as error:
        raise _refused(error) from error


def presence(taps: Sequence[Tap], around: Surroundings) -> Presence:
    """How much of what these NICs must be is there; raises NetworkRefused.

    ALL: they are as `taps` say, and not as an older document or an older release said.
    """
    try:
        with IPRoute() as netlink, _filters() as filters:
            seen = [tap for tap in taps if links.index_of(netlink, tap.name) is not None]
            ruled = [tap for tap in taps if _is_ruled(filters, tap)]
            if not seen and not ruled and not _are_remembered(taps):
                return Presence.NONE
            uplink = find_uplink(netlink, around)
            if uplink is None or len(ruled) < len(taps):
                return Presence.PART
            complete = all(_is_complete(netlink, uplink, around, tap) for tap in taps)
            complete = complete and not any(_flaw(filters, uplink, tap) for tap in taps)
    except (NetlinkError, OSError) as error:
        raise _refused(error) from error
    return Presence.ALL if complete else Presence.PART


def flaws(taps: Sequence[Tap], around: Surroundings) -> dict[str, str]:
    """By interface, what its rules lack, in words; raises NetworkRefused."""
    try:
        with IPRoute() as netlink, _filters() as filters:
            uplink = find_uplink(netlink, around)
            ruled = [tap for tap in taps if _is_ruled(filters, tap)] if uplink else []
            found = {tap.name: _flaw(filters, uplink, tap) for tap in ruled if uplink}
    except (NetlinkError, OSError) as error:
        raise _refused(error) from error
    return {name: text for name, text in found.items() if text}


def any_exists(names: Iterable[str]) -> bool:
    """Whether any of these interfaces is there, whatever it is for; raises NetworkRefused."""
    try:
        with IPRoute() as netlink:
            return any(links.index_of(netlink, name) is not None for name in names)
    except (NetlinkError, OSError) as error:
        raise _refused(error) from error


def ensure_nics(taps: Sequence[Tap], around: Surroundings) -> None:
    """Make the interfaces as they must be; guests that run notice nothing but the difference.

    Bridged ones need the bridge. Raises NoUplink, NetworkRefused or CommandError.
    """
    try:
        with IPRoute() as netlink:
            uplink = links.find_uplink(netlink, around.uplink)
            for tap in taps:
                links.ensure_tap(netlink, tap.name, tap.owner, around.host)
            changed = [tap for tap in taps if not _is_signed(netlink, uplink, around, tap)]
            nft.apply(host_text(uplink, around) + nic_texts(uplink, taps, _known(taps)))
            for tap in taps:
                _connect(netlink, uplink, tap)
            for tap in changed:
                _announce(uplink, tap)
            # Last, so that whatever a crash left undone is done again.
            for tap in changed:
                made_from = _digest(uplink, around, tap)
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
        nft.apply(
            firewall.no_nic_rules(ruled)
            + _no_bridged_rules(ruled)
            + "".join(map(rules.no_nic_rules, ruled))
        )


def reports(taps: Sequence[Tap], told: Told = lambda nic: ()) -> tuple[NicReport, ...]:
    """What was seen at these NICs; raises NetworkRefused or CommandError."""
    try:
        with nft.asking(nft.NETDEV) as netfilter:
            dropped = [_dropped(netfilter, tap) for tap in taps]
    except (NetlinkError, OSError) as error:
        raise _refused(error) from error
    return tuple(
        # Without a table there is nothing to have learned from.
        NicReport(tap.nic.index, learned=learn(tap, told) if counts else (), dropped=counts)
        for tap, counts in zip(taps, dropped, strict=True)
    )


def learn(tap: Tap, told: Told) -> tuple[str, ...]:
    """The addresses that the guest got from the outside network; the last lease holds alone.

    Without a lease it is what the guest's agent tells, or else what the guest uses in ARP.
    Raises CommandError.
    """
    if not tap.nic.dhcp:
        return ()
    found = nft.elements("netdev", rules.nic_table(tap.name))
    leased, spoken, spoken6 = (
        found.get(name, [])
        for name in (bridge_rules.LEARNED, bridge_rules.SPOKEN, bridge_rules.SPOKEN6)
    )
    if leased[1:]:
        nft.apply(bridge_rules.forget(tap.name, leased[1:]))
    known = leased[:1] or told(tap.nic) or spoken
    return tuple(dict.fromkeys((*known, *spoken6)))[:MOST_LEARNED]


def host_text(uplink: Uplink, around: Surroundings) -> str:
    """The rules of the host itself, which those of NICs build on."""
    protected = uplink.networks if around.protected is None else around.protected
    text = firewall.host_rules(protected, uplink.name)
    if uplink.name == BRIDGE and uplink.mac:
        text += bridge_firewall.host_rules(uplink.mac, protected)
    return text


def nic_texts(uplink: Uplink, taps: Sequence[Tap], known: Leads | None = None) -> str:
    """All rules of these NICs. `known`: what leads to chains of the bridge by now."""
    routed = {tap.name: tap.nic for tap in taps if tap.routed}
    bridged = {tap.name: tap.nic for tap in taps if tap.bridged}
    return "".join(
        [
            *(rules.nic_rules(*nic) for nic in routed.items()),
            *(bridge_rules.nic_rules(*nic, uplink.address) for nic in bridged.items()),
            firewall.nic_rules({name: nic.firewall for name, nic in routed.items()}),
            bridge_firewall.nic_rules(bridged, known or {}),
            *(private.nic_text(tap) for tap in taps if tap.private),
        ]
    )


def find_uplink(netlink: Any, around: Surroundings) -> Uplink | None:
    with suppress(NoUplink):
        return links.find_uplink(netlink, around.uplink)
    return None


def _known(taps: Sequence[Tap]) -> dict[str, dict[str, str]]:
    """What leads to chains of these NICs in the bridge, or leads elsewhere what is theirs now."""
    bridged = {tap.name: tap.nic for tap in taps if tap.bridged}
    if not bridged:
        return {}
    wanted = bridge_firewall.leads(bridged)
    return {
        name: {
            key: chain
            for key, chain in led.items()
            if key in wanted[name] or chain in _chains(bridged)
        }
        for name, led in _bridge_leads().items()
    }


def _no_bridged_rules(names: Sequence[str]) -> str:
    known = {
        name: {key: chain for key, chain in led.items() if chain in _chains(names)}
        for name, led in _bridge_leads().items()
    }
    led_to = {chain for led in known.values() for chain in led.values()}
    bridged = [name for name in names if firewall.arriving(name) in led_to]
    return bridge_firewall.no_nic_rules(bridged, known)


def _bridge_leads() -> dict[str, dict[str, str]]:
    if not nft.tables_of([bridge_firewall.HOST_TABLE], nft.INET):
        return {}
    return nft.jumps("inet", bridge_firewall.HOST_TABLE)


def _chains(names: Iterable[str]) -> set[str]:
    return {chain for name in names for chain in (firewall.arriving(name), firewall.leaving(name))}


def _connect(netlink: Any, uplink: Uplink, tap: Tap) -> None:
    """Everything but the rules, which are there before. Here the mode of the NIC decides."""
    if tap.private:
        private.connect(netlink, tap)
    elif tap.bridged:
        bridge.ensure_port(netlink, tap)
    else:
        links.raise_tap(netlink, tap)
        routes.ensure_routes(netlink, uplink, tap)
    limits.ensure_limit(netlink, tap.name, tap.nic.mbit_in)


def _announce(uplink: Uplink, tap: Tap) -> None:
    """A bridged guest answers for itself, so it is its MAC that neighbours must learn."""
    if tap.private:
        return
    told = [addresses.spoken_for(network) for network in addresses.led_to(tap.nic)]
    announce.announce(uplink, told, tap.nic.mac if tap.bridged else None)


def _is_complete(netlink: Any, uplink: Uplink, around: Surroundings, tap: Tap) -> bool:
    if not _is_signed(netlink, uplink, around, tap):
        return False
    if tap.private:
        return private.is_connected(netlink, tap)
    if tap.bridged:
        return bridge.is_port(netlink, tap) and _is_led_to(tap)
    return routes.are_complete(netlink, uplink, tap)


def _is_led_to(tap: Tap) -> bool:
    """Whether nobody else's document has taken away what leads to a bridged NIC."""
    with nft.asking(nft.INET) as netfilter:
        return all(
            nft.chain_led_to(netfilter, bridge_firewall.HOST_TABLE, name, key) == chain
            for name, led in bridge_firewall.leads({tap.name: tap.nic}).items()
            for key, chain in led.items()
        )


def _is_signed(netlink: Any, uplink: Uplink, around: Surroundings, tap: Tap) -> bool:
    wanted = around.host, _digest(uplink, around, tap)
    return links.signature(netlink, tap.name) == wanted


def _digest(uplink: Uplink, around: Surroundings, tap: Tap) -> str:
    """Of all that a NIC is made from: its document, and the rules as this release writes them."""
    sample = Tap("nic", tap.nic, None, tap.network)
    text = host_text(uplink, around) + nic_texts(uplink, [sample])
    return hashlib.sha256(json.encode(tap.nic) + text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class _Filters:
    """Sockets to ask by: of what passes between guests and others, and of what guests send."""

    passing: Any
    sent: Any


@contextmanager
def _filters() -> Iterator[_Filters]:
    with nft.asking(nft.INET) as passing, nft.asking(nft.NETDEV) as sent:
        yield _Filters(passing, sent)


def _is_ruled(filters: _Filters, tap: Tap) -> bool:
    table = bridge_firewall.HOST_TABLE if tap.bridged else firewall.HOST_TABLE
    chain = firewall.arriving(tap.name)
    filtered = tap.private or nft.chain_exists(filters.passing, table, chain)
    return filtered and nft.chain_exists(filters.sent, rules.nic_table(tap.name), rules.ENTRY)


def _flaw(filters: _Filters, uplink: Uplink, tap: Tap) -> str:
    """Whether as many rules are there as were written; a table that lost one is written anew."""
    must = written.counts(nic_texts(uplink, [tap]))
    own = rules.nic_table(tap.name)
    there = {(own, chain): count for chain, count in nft.rule_counts(filters.sent, own).items()}
    for table, chain in must:
        if table != own:
            found = nft.rule_counts(filters.passing, table, chain)
            there |= {(table, name): count for name, count in found.items()}
    return written.flaw(must, there)


def _are_remembered(taps: Sequence[Tap]) -> bool:
    """Whether there are rules without an interface: a crash came while the NICs were removed.

    The chain that takes what a guest sends goes with the interface, its table does not.
    """
    return bool(nft.tables_of(rules.nic_table(tap.name) for tap in taps))


def _dropped(netfilter: Any, tap: Tap) -> dict[str, int]:
    found = nft.counters(netfilter, rules.nic_table(tap.name))
    return {name.removeprefix(rules.COUNTER_PREFIX): packets for name, packets in found.items()}


def _refused(error: Exception) -> NetworkRefused:
    return NetworkRefused(f"the kernel refused a request about the host's network: {error}")
