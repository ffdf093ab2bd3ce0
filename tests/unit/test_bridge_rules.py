"""The nftables text of a bridged guest's interface, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from networks.host import bridge_firewall, bridge_rules
from networks.spec import FirewallSpec, NicSpec
from tests.documents import SPEC

HOST = "192.0.2.11"
GOLDEN = Path(__file__).parent / "golden"
STATIC = structs.replace(
    SPEC.nics[0],
    mode="public_bridged",
    ipv6="2001:db8:1::/64",
    floating=("203.0.113.9", "2001:db8:2::/64"),
)
DHCP = structs.replace(
    SPEC.nics[0],
    mode="public_bridged",
    ipv4=None,
    gateway="192.0.2.1",
    dhcp=True,
    leased_from="192.0.2.0/24",
)


@pytest.mark.parametrize(("name", "nic"), [("bridged-static", STATIC), ("bridged-dhcp", DHCP)])
def test_a_bridged_guest_says_only_what_is_its_own(name: str, nic: NicSpec) -> None:
    assert bridge_rules.nic_rules("cu7-0", nic, HOST) == (GOLDEN / f"{name}.nft").read_text()


def test_a_guest_without_ipv4_says_nothing_in_it() -> None:
    text = bridge_rules.nic_rules("cu7-0", structs.replace(STATIC, ipv4=None, floating=()), HOST)
    assert "        counter name forged_ipv4 drop\n" in text
    assert "ip saddr 198" not in text


def test_what_no_firewall_has_judged_does_not_come_to_a_guest_that_has_one() -> None:
    closed = structs.replace(DHCP, firewall=FirewallSpec())
    unjudged = f"meta mark {bridge_firewall.UNJUDGED:#x} drop"
    assert unjudged in bridge_rules.nic_rules("cu7-0", closed, HOST)
    assert unjudged not in bridge_rules.nic_rules("cu7-0", DHCP, HOST)


def test_an_older_lease_can_be_forgotten() -> None:
    assert bridge_rules.forget("cu7-0", ["192.0.2.5", "192.0.2.6"]) == (
        "delete element netdev cumulet_cu7-0 learned { 192.0.2.5, 192.0.2.6 }\n"
    )
