"""Address arithmetic holds for every pool, not only for the ones we thought of."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from networks.addressing import first_free, new_mac

POOL = IPv4Network("198.51.100.0/28")
addresses = st.sets(st.sampled_from(list(POOL)))


@given(held=addresses, excluded=addresses)
def test_the_lowest_free_address_is_lent(
    held: set[IPv4Address], excluded: set[IPv4Address]
) -> None:
    free = [ip for ip in POOL.hosts() if ip not in held and ip not in excluded]
    assert first_free(POOL, sorted(held), excluded) == (free[0] if free else None)


def test_network_and_broadcast_addresses_are_never_lent() -> None:
    hosts = sorted(POOL.hosts())
    assert first_free(POOL, hosts) is None


def test_mac_addresses_are_unicast_and_locally_administered() -> None:
    for _ in range(100):
        first = int(new_mac().split(":")[0], 16)
        assert first & 0b11 == 0b10
