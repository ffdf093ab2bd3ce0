"""The host's uplink becomes a port of a bridge, and back: what is done, in order, and undone. Pure.

What an interface has (`Interface`) becomes ordered operations, each with the change that takes it
back. Every undo may be made whether or not its operation was, and more than once; so a set-up
that failed, or whose process was killed anywhere in it, is taken back by making all of them from
the last to the first. `networks.host.bridge` looks, and carries the operations out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from msgspec import Struct

# Unlike the name of a TAP: rules for guests' interfaces must not match the host's own.
BRIDGE = "br-cumulet"

ACCEPT_DAD = "ipv6/conf/{}/accept_dad"
ADDR_GEN_MODE = "ipv6/conf/{}/addr_gen_mode"
# How an interface answers ARP and ND, filters and forwards; Documentation/networking/ip-sysctl.rst.
SYSCTLS = (
    *(
        f"ipv4/conf/{{}}/{name}"
        for name in (
            *("accept_local", "accept_redirects", "accept_source_route", "arp_accept"),
            *("arp_announce", "arp_filter", "arp_ignore", "arp_notify", "forwarding"),
            *("log_martians", "promote_secondaries", "proxy_arp", "proxy_arp_pvlan"),
            *("route_localnet", "rp_filter", "secure_redirects", "send_redirects"),
            "src_valid_mark",
        )
    ),
    *(
        f"ipv6/conf/{{}}/{name}"
        for name in (
            *("accept_ra", "accept_ra_defrtr", "accept_ra_pinfo", "accept_redirects"),
            *("autoconf", "disable_ipv6", "forwarding", "ndisc_notify", "proxy_ndp"),
            "use_tempaddr",
        )
    ),
    *(
        f"{family}/neigh/{{}}/{name}"
        for family in ("ipv4", "ipv6")
        for name in (
            *("base_reachable_time_ms", "delay_first_probe_time", "gc_stale_time", "locktime"),
            *("mcast_solicit", "proxy_delay", "proxy_qlen", "retrans_time_ms", "ucast_solicit"),
        )
    ),
)
_GENERATE_NONE = "1"
_NAME_BYTES = 15

Arguments = dict[str, Any]
Kind = Literal["link", "addr", "route", "neigh", "sysctl", "settled"]


class Change(Struct, frozen=True):
    """One request to the kernel about `device`; `arguments` in pyroute2's words.

    What is "settled" has no tentative address any more.
    """

    what: Kind
    verb: str
    device: str
    arguments: Arguments = {}


class Operation(Struct, frozen=True):
    """`do` None: at this point there is only something to take back, and the other way round."""

    do: Change | None
    undo: Change | None = None


class Interface(Struct, frozen=True):
    """An interface, with all that moves when another one takes its place.

    `routes`: but for those that the kernel makes of addresses. `dependants`: routes of other
    interfaces whose source is an address of this one; they end with the address. `sysctls`:
    those in which it differs from a new interface; the two that delay addresses are named.
    """

    name: str
    mac: str
    mtu: int
    addresses: tuple[Arguments, ...] = ()
    routes: tuple[Arguments, ...] = ()
    neighbours: tuple[Arguments, ...] = ()
    dependants: tuple[tuple[str, Arguments], ...] = ()
    sysctls: dict[str, str] = {}
    accept_dad: str = "1"
    addr_gen_mode: str = "0"


_REMOVAL = Change("link", "del", BRIDGE)


def bridging(uplink: Interface) -> list[Operation]:
    """The uplink becomes a port of a new bridge, which is the host's interface from then on."""
    made = {
        "kind": "bridge",
        "address": uplink.mac,
        "mtu": uplink.mtu,
        "br_stp_state": 0,
        "br_forward_delay": 0,
        # Without a querier in the network, a bridge that snoops forgets who listens to ND.
        "br_mcast_snooping": 0,
        # What passes through comes by the rules of networks.host.bridge_firewall.
        "br_nf_call_iptables": 1,
        "br_nf_call_ip6tables": 1,
    }
    return [
        *_without_delay(uplink),
        Operation(Change("link", "add", BRIDGE, made), _REMOVAL),
        Operation(_sysctl(ACCEPT_DAD, BRIDGE, "0")),
        Operation(_sysctl(ADDR_GEN_MODE, BRIDGE, _GENERATE_NONE)),
        *(Operation(_sysctl(name, BRIDGE, value)) for name, value in uplink.sysctls.items()),
        Operation(Change("link", "set", BRIDGE, {"state": "up"})),
        Operation(_master(uplink.name, BRIDGE), _master(uplink.name, None)),
        *_moved(uplink, BRIDGE),
        *_as_before(uplink, BRIDGE),
    ]


def unbridging(bridge: Interface, uplink: str) -> list[Operation]:
    """The way back. The bridge has no port left but the uplink; nothing follows its removal."""
    return [
        *_without_delay(bridge),
        Operation(_sysctl(ACCEPT_DAD, uplink, "0"), _sysctl(ACCEPT_DAD, uplink, bridge.accept_dad)),
        Operation(_master(uplink, None), _master(uplink, BRIDGE)),
        *_moved(bridge, uplink),
        *_as_before(bridge, uplink),
        Operation(_REMOVAL),
    ]


def is_over(operations: Sequence[Operation], *, bridge_exists: bool) -> bool:
    """Whether these were carried out to a last one that nothing takes back."""
    return not bridge_exists and bool(operations) and operations[-1].do == _REMOVAL


def _without_delay(source: Interface) -> list[Operation]:
    """Taken back, addresses work at once: nobody else could have got them meanwhile."""
    name = source.name
    return [
        Operation(_sysctl(ACCEPT_DAD, name, "0"), _sysctl(ACCEPT_DAD, name, source.accept_dad)),
        Operation(None, Change("settled", "wait", name)),
        Operation(
            _sysctl(ADDR_GEN_MODE, name, _GENERATE_NONE),
            _sysctl(ADDR_GEN_MODE, name, source.addr_gen_mode),
        ),
    ]


def _moved(source: Interface, target: str) -> list[Operation]:
    """Addresses with what hangs on them; the host is without for as long as this takes.

    The kernel drops a route when its source address goes, whichever interface had it.
    """
    name = source.name
    dependants = [Change("route", "replace", *dependant) for dependant in source.dependants]
    addresses = [_address(address, name, target) for address in source.addresses]
    routes = sorted(source.routes, key=lambda route: "gateway" in route or "via" in route)
    return [
        *(Operation(None, change) for change in dependants),
        *(
            Operation(Change("neigh", "del", name, entry), Change("neigh", "replace", name, entry))
            for entry in source.neighbours
        ),
        *_gone("route", name, routes),
        *_gone("addr", name, source.addresses),
        *_there("addr", target, addresses),
        *_there("route", target, routes),
        *_there("neigh", target, source.neighbours),
        *(Operation(change) for change in dependants),
    ]


def _as_before(source: Interface, target: str) -> list[Operation]:
    """New addresses are tested again from here on, as they were."""
    return [
        Operation(Change("settled", "wait", target)),
        Operation(_sysctl(ACCEPT_DAD, target, source.accept_dad)),
        Operation(
            _sysctl(ADDR_GEN_MODE, target, source.addr_gen_mode),
            _sysctl(ADDR_GEN_MODE, target, _GENERATE_NONE),
        ),
        Operation(
            _sysctl(ACCEPT_DAD, source.name, source.accept_dad),
            _sysctl(ACCEPT_DAD, source.name, "0"),
        ),
    ]


def _gone(what: Kind, device: str, things: Iterable[Arguments]) -> list[Operation]:
    """Last things first, so that taking it back makes them in their old order."""
    return [
        Operation(Change(what, "del", device, thing), Change(what, "add", device, thing))
        for thing in reversed([*things])
    ]


def _there(what: Kind, device: str, things: Iterable[Arguments]) -> list[Operation]:
    return [
        Operation(Change(what, "add", device, thing), Change(what, "del", device, thing))
        for thing in things
    ]


def _address(address: Arguments, source: str, target: str) -> Arguments:
    """An IPv4 label must begin with the interface's name; one that gets too long is left out."""
    label = str(address.get("label", ""))
    moved = {key: value for key, value in address.items() if key != "label"}
    renamed = target + label.removeprefix(source)
    if label.startswith(f"{source}:") and len(renamed) <= _NAME_BYTES:
        moved["label"] = renamed
    return moved


def _sysctl(name: str, device: str, value: str) -> Change:
    return Change("sysctl", "set", device, {"name": name.format(device), "value": value})


def _master(port: str, bridge: str | None) -> Change:
    return Change("link", "set", port, {"master": bridge})
