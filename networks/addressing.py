"""IP and MAC arithmetic. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network


def new_mac() -> str:
    """A random locally administered unicast MAC address (46 random bits, so no registry)."""
    value = secrets.randbits(48) & ~(0b11 << 40) | (0b10 << 40)
    return ":".join(f"{byte:02x}" for byte in value.to_bytes(6, "big"))


def first_free(
    pool: IPv4Network, held: Iterable[IPv4Address], excluded: Collection[IPv4Address] = ()
) -> IPv4Address | None:
    """The lowest usable address of the pool that is neither held nor excluded, or None.

    `held` must be sorted; it is read no further than needed. Network and broadcast address are
    never lent, although a routed /32 could be either: upstream routers treat them specially.
    """
    taken = iter(held)
    current = next(taken, None)
    for candidate in pool.hosts():
        while current is not None and current < candidate:
            current = next(taken, None)
        if candidate != current and candidate not in excluded:
            return candidate
    return None
