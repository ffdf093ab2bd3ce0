"""What a NIC's document means in networks, and which addresses the host answers for."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from msgspec import structs

from networks.host import addresses
from tests.documents import SPEC

NIC = SPEC.nics[0]


def test_all_that_is_led_to_a_nic_with_its_own_addresses_first() -> None:
    nic = structs.replace(
        NIC, ipv6="2001:db8:a:7::/64", floating=("203.0.113.77", "2001:db8:a:77::/64")
    )
    assert [str(network) for network in addresses.led_to(nic)] == [
        "198.51.100.7/32",
        "2001:db8:a:7::/64",
        "203.0.113.77/32",
        "2001:db8:a:77::/64",
    ]


def test_a_nic_may_have_no_address_at_all() -> None:
    assert addresses.led_to(structs.replace(NIC, ipv4=None)) == ()


@pytest.mark.parametrize(
    ("network", "address"),
    [
        ("198.51.100.7/32", "198.51.100.7"),
        ("2001:db8:a:7::/64", "2001:db8:a:7::1"),
        ("2001:db8:a:7::9/128", "2001:db8:a:7::9"),
    ],
)
def test_the_host_answers_for_the_first_address_of_a_network(network: str, address: str) -> None:
    assert str(addresses.spoken_for(ip_network(network))) == address
