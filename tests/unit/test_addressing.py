"""Address arithmetic holds for every pool, not only for the ones we thought of."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from networks.addressing import first_free, lendable, new_mac, unit_of, unit_text

POOL = IPv4Network("198.51.100.0/28")
POOL6 = IPv6Network("2001:db8::/60")
UNITS6 = [net.network_address for net in POOL6.subnets(new_prefix=64)]
addresses = st.sets(st.sampled_from(list(POOL)))
parts = st.sets(st.sampled_from([*POOL, *POOL.subnets(new_prefix=30)]).map(ip_network))
units6 = st.sets(st.sampled_from(UNITS6))
parts6 = st.sets(
    st.sampled_from(
        [*POOL6.subnets(new_prefix=62), *(IPv6Network(f"{unit + 5}/128") for unit in UNITS6)]
    )
)


@given(held=addresses, excluded=parts)
def test_the_lowest_free_address_is_lent(
    held: set[IPv4Address], excluded: set[IPv4Network]
) -> None:
    allowed = [ip for ip in POOL.hosts() if not any(ip in part for part in excluded)]
    free = [ip for ip in allowed if ip not in held]
    assert first_free(POOL, sorted(held), excluded) == (free[0] if free else None)
    assert lendable(POOL, excluded) == len(allowed)


@given(held=units6, excluded=parts6)
def test_the_lowest_free_network_of_64_is_lent(
    held: set[IPv6Address], excluded: set[IPv6Network]
) -> None:
    def barred(unit: IPv6Address) -> bool:
        return any(part.overlaps(IPv6Network((unit, 64))) for part in excluded)

    allowed = [unit for unit in UNITS6 if not barred(unit)]
    free = [unit for unit in allowed if unit not in held]
    assert first_free(POOL6, sorted(held), excluded) == (free[0] if free else None)
    assert lendable(POOL6, excluded) == len(allowed)


def test_network_and_broadcast_addresses_are_never_lent() -> None:
    hosts = sorted(POOL.hosts())
    assert first_free(POOL, hosts) is None


@pytest.mark.parametrize(
    ("pool", "count", "first"),
    [
        ("198.51.100.0/30", 2, "198.51.100.1"),
        ("198.51.100.0/31", 2, "198.51.100.0"),
        ("198.51.100.7/32", 1, "198.51.100.7"),
        ("2001:db8::/64", 1, "2001:db8::"),
        ("2001:db8::/32", 2**32, "2001:db8::"),
    ],
)
def test_the_smallest_and_the_largest_pools_lend_what_they_have(
    pool: str, count: int, first: str
) -> None:
    network = ip_network(pool)
    assert lendable(network) == count
    assert first_free(network, []) == ip_address(first)


def test_a_large_part_that_is_excluded_is_skipped_in_one_step() -> None:
    pool, most = IPv6Network("2001:db8::/32"), IPv6Network("2001:db8::/33")
    assert first_free(pool, [], [most]) == IPv6Address("2001:db8:8000::")


def test_an_address_belongs_to_the_unit_that_is_lent() -> None:
    assert unit_of(IPv6Address("2001:db8:0:7:1::9")) == IPv6Address("2001:db8:0:7::")
    assert unit_of(IPv4Address("198.51.100.7")) == IPv4Address("198.51.100.7")
    assert unit_text("2001:db8:0:7::") == "2001:db8:0:7::/64"
    assert unit_text("198.51.100.7") == "198.51.100.7"


def test_mac_addresses_are_unicast_and_locally_administered() -> None:
    for _ in range(100):
        first = int(new_mac().split(":")[0], 16)
        assert first & 0b11 == 0b10
