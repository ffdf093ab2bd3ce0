"""How a private network is divided: its range, subnets and routes, by the rules of the contract.

A `Layout` is a valid one; every change answers another, or raises InvalidInput for the field of
the request that cannot be. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from cloud.errors import LimitExceeded, invalid

MOST_SUBNETS: Final = 50
MOST_ROUTES: Final = 100
# The longest prefixes of networks and subnets, and that of subnets which we choose.
LONGEST_RANGE: Final = 24
LONGEST_SUBNET: Final = 30
CHOSEN_SUBNET: Final = 24
EVERYWHERE: Final = IPv4Network("0.0.0.0/0")

# RFC 1918.
_PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
# The gateway of every public interface, so of no use behind a private one.
_ROUTED_GATEWAY = IPv4Address("172.31.1.1")


@dataclass(frozen=True)
class Way:
    """A route: the hosts' gateways send what is for `destination` on to the member `gateway`."""

    destination: IPv4Network
    gateway: IPv4Address


@dataclass(frozen=True)
class Layout:
    """No two subnets overlap, nor a subnet and a route's destination, and no route is a loop."""

    ip_range: IPv4Network
    subnets: tuple[IPv4Network, ...] = ()
    ways: tuple[Way, ...] = ()

    def with_subnet(self, text: str | None) -> Layout:
        """With one more subnet; None: the first /24 that is free."""
        if len(self.subnets) >= MOST_SUBNETS:
            raise LimitExceeded("subnets", f"a network has at most {MOST_SUBNETS} subnets")
        subnet = self._first_free() if text is None else parse_network(text, "ip_range")
        if subnet.prefixlen > LONGEST_SUBNET:
            raise invalid("ip_range", f"{subnet} is smaller than /{LONGEST_SUBNET}")
        if not subnet.subnet_of(self.ip_range):
            raise invalid("ip_range", f"{subnet} is not inside the network, {self.ip_range}")
        for other in self._occupied():
            if other.overlaps(subnet):
                raise invalid("ip_range", f"{subnet} overlaps {other} of this network")
        return replace(self, subnets=(*self.subnets, subnet))

    def without_subnet(self, text: str) -> Layout:
        subnet = parse_network(text, "ip_range")
        if subnet not in self.subnets:
            raise invalid("ip_range", f"{subnet} is no subnet of this network")
        return replace(self, subnets=tuple(one for one in self.subnets if one != subnet))

    def with_way(self, destination: str, gateway: str) -> Layout:
        """With one more route."""
        if len(self.ways) >= MOST_ROUTES:
            raise LimitExceeded("routes", f"a network has at most {MOST_ROUTES} routes")
        way = Way(parse_network(destination, "destination"), parse_address(gateway, "gateway"))
        if way.destination != EVERYWHERE:
            _check_private(way.destination, "destination")
        for other in (*self.subnets, *(one.destination for one in self.ways)):
            if way.destination == other or (
                EVERYWHERE not in (way.destination, other) and other.overlaps(way.destination)
            ):
                raise invalid("destination", f"{way.destination} overlaps {other} of this network")
        if way.gateway not in self.ip_range or self.is_reserved(way.gateway):
            raise invalid("gateway", f"{way.gateway} is no address that a member can have")
        layout = replace(self, ways=(*self.ways, way))
        if layout._loops(way):
            raise invalid("gateway", f"the way to {way.gateway} leads through this route: a loop")
        return layout

    def without_way(self, destination: str, gateway: str) -> Layout:
        way = Way(parse_network(destination, "destination"), parse_address(gateway, "gateway"))
        if way not in self.ways:
            raise invalid("destination", f"no route to {way.destination} by way of {way.gateway}")
        return replace(self, ways=tuple(one for one in self.ways if one != way))

    def widened(self, text: str) -> Layout:
        """With a larger range that starts at the same address."""
        wider = check_range(text)
        same_start = wider.network_address == self.ip_range.network_address
        if not same_start or wider.prefixlen > self.ip_range.prefixlen:
            raise invalid(
                "ip_range",
                f"must start at {self.ip_range.network_address} and be no smaller than"
                f" {self.ip_range}",
            )
        return replace(self, ip_range=wider)

    def subnet_of(self, address: IPv4Address) -> IPv4Network | None:
        return next((subnet for subnet in self.subnets if address in subnet), None)

    def is_reserved(self, address: IPv4Address) -> bool:
        """Whether no member can have the address, whatever is free."""
        if address in (_ROUTED_GATEWAY, first_address(self.ip_range)):
            return True
        subnet = self.subnet_of(address) or self.ip_range
        ends = (subnet.network_address, subnet.broadcast_address)
        return address in ends or address == first_address(subnet)

    def _first_free(self) -> IPv4Network:
        """Jumps over what is in the way, so the cost follows that and not the range's size."""
        size = 2 ** (32 - CHOSEN_SUBNET)
        start, last = int(self.ip_range.network_address), int(self.ip_range.broadcast_address)
        occupied = self._occupied()
        while start + size - 1 <= last:
            candidate = IPv4Network((start, CHOSEN_SUBNET))
            ends = [int(one.broadcast_address) for one in occupied if one.overlaps(candidate)]
            if not ends:
                return candidate
            start = (max(ends) // size + 1) * size
        raise invalid("ip_range", f"no /{CHOSEN_SUBNET} is free in {self.ip_range}: choose one")

    def _occupied(self) -> list[IPv4Network]:
        destinations = [way.destination for way in self.ways if way.destination != EVERYWHERE]
        return [*self.subnets, *destinations]

    def _loops(self, way: Way) -> bool:
        """Whether who follows the route comes back to it. Subnets are reached without a route."""
        seen: set[Way] = set()
        following: Way | None = way
        while following is not None and following not in seen:
            seen.add(following)
            following = self._way_to(following.gateway)
        return following is not None

    def _way_to(self, address: IPv4Address) -> Way | None:
        """The route by which an address inside the range is reached, if it needs one."""
        if self.subnet_of(address):
            return None
        inside = (way for way in self.ways if way.destination != EVERYWHERE)
        return next((way for way in inside if address in way.destination), None)


def check_range(text: str) -> IPv4Network:
    """The range of a network: private, and large enough."""
    ip_range = parse_network(text, "ip_range")
    _check_private(ip_range, "ip_range")
    if ip_range.prefixlen > LONGEST_RANGE:
        raise invalid("ip_range", f"{ip_range} is smaller than /{LONGEST_RANGE}")
    return ip_range


def first_address(network: IPv4Network) -> IPv4Address:
    """That of the gateway, which every host answers for."""
    return network.network_address + 1


def overlap(ranges: Iterable[IPv4Network], other: IPv4Network) -> IPv4Network | None:
    """The first of the ranges that overlaps the other one."""
    return next((one for one in ranges if one.overlaps(other)), None)


def _check_private(network: IPv4Network, field: str) -> None:
    if not any(network.subnet_of(private) for private in _PRIVATE):
        shown = ", ".join(map(str, _PRIVATE))
        raise invalid(field, f"{network} is not inside one of the private networks {shown}")


def parse_network(text: str, field: str) -> IPv4Network:
    """Raises InvalidInput for the field of the request."""
    try:
        if "/" not in text:
            raise ValueError(f"{text!r} has no prefix length, such as 10.0.0.0/16")
        return IPv4Network(text)
    except ValueError as error:
        raise invalid(field, str(error)) from error


def parse_address(text: str, field: str) -> IPv4Address:
    """Raises InvalidInput for the field of the request."""
    try:
        return IPv4Address(text)
    except ValueError as error:
        raise invalid(field, str(error)) from error
