"""The nftables text of a guest's interface, word for word."""

from __future__ import annotations

from ipaddress import IPv4Network

from networks.host import rules
from tests.documents import SPEC

NIC_RULES = """\
add table netdev cumulet_cu7-0
delete table netdev cumulet_cu7-0

table netdev cumulet_cu7-0 {
    chain from_guest {
        type filter hook ingress device "cu7-0" priority filter; policy drop;
        ether saddr != 02:00:00:00:00:07 drop
        arp saddr ether 02:00:00:00:00:07 arp saddr ip 198.51.100.7 accept
        ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
        ip saddr != 198.51.100.7 drop
        udp sport 67 drop
        meta protocol ip accept
    }
}
"""


def test_a_guest_speaks_under_its_own_addresses_only() -> None:
    assert rules.nic_rules("cu7-0", SPEC.nics[0]) == NIC_RULES


def test_taking_rules_away_works_whether_or_not_they_are_there() -> None:
    assert rules.no_nic_rules("cu7-0") == (
        "add table netdev cumulet_cu7-0\ndelete table netdev cumulet_cu7-0\n"
    )


def test_the_host_s_networks_are_closed_to_guests() -> None:
    text = rules.host_rules([IPv4Network("192.0.2.0/24"), IPv4Network("10.0.0.0/8")])
    assert "elements = { 10.0.0.0/8, 192.0.2.0/24 }" in text
    assert "ip saddr != @protected ip daddr @protected drop" in text


def test_without_networks_to_protect_the_set_is_empty_and_the_text_still_whole() -> None:
    assert "elements" not in rules.host_rules([])
