"""IP and MAC arithmetic. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

# IPv6 is lent in networks of this length, so that a guest can give itself addresses.
UNIT6 = 64
_UNIT6_SIZE = 2 ** (128 - UNIT6)


def new_mac() -> str:
    """A random locally administered unicast MAC address (46 random bits, so no registry)."""
    value = secrets.randbits(48) & ~(0b11 << 40) | (0b10 << 40)
    return ":".join(f"{byte:02x}" for byte in value.to_bytes(6, "big"))


def first_free(
    pool: IpNetwork, held: Iterable[IpAddress], excluded: Iterable[IpNetwork] = ()
) -> IpAddress | None:
    """The lowest unit of the pool that is neither held nor touches what is excluded, or None.

    A unit is an IPv4 address, or a /64 named by its first address. `held` must be sorted; it is
    read no further than needed. The cost follows what is held and excluded, not the pool's size.
    """
    size = _unit_size(pool)
    last = _bounds(pool)[1]
    barred = _intervals(pool, excluded)
    taken = (int(address) for address in held)
    current = next(taken, None)
    candidate = _bounds(pool)[0]
    while candidate <= last:
        while current is not None and current < candidate:
            current = next(taken, None)
        beyond = candidate if candidate == current else _end_of(barred, candidate, size)
        if beyond is None:
            return type(pool.network_address)(candidate)
        candidate = (beyond // size + 1) * size
    return None


def is_inside(network: IpNetwork, ranges: Iterable[IpNetwork]) -> bool:
    """Whether the whole network is in one of the ranges."""
    same = (one for one in ranges if one.version == network.version)
    return any(one.supernet_of(network) for one in same)  # type: ignore[arg-type]  # one family


def lendable(pool: IpNetwork, excluded: Iterable[IpNetwork] = ()) -> int:
    """How many units the pool can lend at most."""
    size = _unit_size(pool)
    first, last = _bounds(pool)
    count = (last - first) // size + 1
    free_from = first // size
    for start, end in _intervals(pool, excluded):
        low = max(start // size, free_from)
        high = min(end // size, last // size)
        if high >= low:
            count -= high - low + 1
            free_from = high + 1
    return count


def unit_text(ip: object) -> str:
    """A lent unit as the API shows it: `203.0.113.7` or `2001:db8:0:7::/64`."""
    address = ip_address(str(ip))
    return str(address) if address.version == 4 else f"{address}/{UNIT6}"


def unit_of(ip: IpAddress) -> IpAddress:
    """The unit that an address belongs to, by its first address."""
    if isinstance(ip, IPv4Address):
        return ip
    return IPv6Address(int(ip) // _UNIT6_SIZE * _UNIT6_SIZE)


def default_dns_ptr(ip: object) -> str:
    """The reverse name of an IPv4 address that nobody has named."""
    octets = str(ip).split(".")
    return f"static.{'.'.join(reversed(octets))}.cumulet.invalid"


def _unit_size(pool: IpNetwork) -> int:
    return 1 if pool.version == 4 else _UNIT6_SIZE


def _bounds(pool: IpNetwork) -> tuple[int, int]:
    """The first and the last unit that may be lent.

    Network and broadcast address are never lent, although a routed /32 could be either: upstream
    routers treat them specially.
    """
    first, last = int(pool.network_address), int(pool.broadcast_address)
    if pool.version == 4 and pool.prefixlen < 31:
        return first + 1, last - 1
    return first, last // _unit_size(pool) * _unit_size(pool)


def _intervals(pool: IpNetwork, excluded: Iterable[IpNetwork]) -> list[tuple[int, int]]:
    """The excluded networks of the pool's family as sorted pairs of first and last address."""
    return sorted(
        (int(network.network_address), int(network.broadcast_address))
        for network in excluded
        if network.version == pool.version
    )


def _end_of(intervals: Iterable[tuple[int, int]], unit: int, size: int) -> int | None:
    """The last address that bars this unit, or None."""
    return max(_ends(intervals, unit, size), default=None)


def _ends(intervals: Iterable[tuple[int, int]], unit: int, size: int) -> Iterator[int]:
    for start, end in intervals:
        if start < unit + size and end >= unit:
            yield end
