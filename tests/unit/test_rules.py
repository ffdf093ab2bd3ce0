"""The nftables text of what a guest may send, word for word."""

from __future__ import annotations

import pytest
from msgspec import structs

from networks.host import links, rules
from tests.documents import SPEC

NIC = SPEC.nics[0]
BOTH = structs.replace(
    NIC,
    ipv6="2001:db8:a:7::/64",
    floating=("203.0.113.77", "2001:db8:a:77::/64"),
    mbit_out=80,
)

IPV4_RULES = """\
add table netdev cumulet_cu7-0
flush table netdev cumulet_cu7-0
table netdev cumulet_cu7-0 {
    counter forged_mac { }
    counter forged_ipv4 { }
    counter forged_ipv6 { }
    counter forged_arp { }
    counter forged_nd { }
    counter forged_dhcp_server { }
    counter forged_ra { }
    counter forged_protocol { }
    chain says_arp {
        arp saddr ether != 02:00:00:00:00:07 counter name forged_arp drop
        arp saddr ip 198.51.100.7 accept
        arp saddr ip 0.0.0.0 arp daddr ip 198.51.100.7 accept
        counter name forged_arp drop
    }
    chain says_ipv4 {
        udp sport 67 counter name forged_dhcp_server drop
        udp dport 68 counter name forged_dhcp_server drop
        ip saddr 198.51.100.7 accept
        ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
        counter name forged_ipv4 drop
    }
    chain says_ipv6 {
        ip6 saddr :: drop
        ip6 saddr fe80::/64 drop
        counter name forged_ipv6 drop
    }
    chain from_guest {
        type filter hook ingress device "cu7-0" priority filter; policy drop;
        ether saddr != 02:00:00:00:00:07 counter name forged_mac drop
        meta protocol ip goto says_ipv4
        meta protocol ip6 goto says_ipv6
        meta protocol arp goto says_arp
        counter name forged_protocol drop
    }
}
"""

RULES = """\
add table netdev cumulet_cu7-0
flush table netdev cumulet_cu7-0
table netdev cumulet_cu7-0 {
    counter forged_mac { }
    counter forged_ipv4 { }
    counter forged_ipv6 { }
    counter forged_arp { }
    counter forged_nd { }
    counter forged_dhcp_server { }
    counter forged_ra { }
    counter forged_protocol { }
    chain says_arp {
        arp saddr ether != 02:00:00:00:00:07 counter name forged_arp drop
        arp saddr ip 198.51.100.7 accept
        arp saddr ip 203.0.113.77 accept
        arp saddr ip 0.0.0.0 arp daddr ip 198.51.100.7 accept
        arp saddr ip 0.0.0.0 arp daddr ip 203.0.113.77 accept
        counter name forged_arp drop
    }
    chain says_ipv4 {
        udp sport 67 counter name forged_dhcp_server drop
        udp dport 68 counter name forged_dhcp_server drop
        ip saddr 198.51.100.7 accept
        ip saddr 203.0.113.77 accept
        ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
        counter name forged_ipv4 drop
    }
    chain claims {
        @th,64,128 0xfe800000000000000000000000000001 counter name forged_nd drop
        @th,64,64 0x20010db8000a0007 accept
        @th,64,64 0x20010db8000a0077 accept
        @th,64,64 0xfe80000000000000 accept
        counter name forged_nd drop
    }
    chain says_icmpv6 {
        icmpv6 type nd-router-advert counter name forged_ra drop
        icmpv6 type < nd-neighbor-solicit accept
        icmpv6 type > nd-redirect accept
        ip6 nexthdr != ipv6-icmp counter name forged_nd drop
        icmpv6 type nd-neighbor-solicit ip6 length 24 accept
        icmpv6 type nd-neighbor-solicit ip6 length 32 @th,192,64 0x0101020000000007 accept
        icmpv6 type nd-neighbor-advert ip6 length 24 goto claims
        icmpv6 type nd-neighbor-advert ip6 length 32 @th,192,64 0x0201020000000007 goto claims
        counter name forged_nd drop
    }
    chain speaks_ipv6 {
        meta l4proto ipv6-icmp goto says_icmpv6
        udp sport 547 counter name forged_dhcp_server drop
        udp dport 546 counter name forged_dhcp_server drop
        accept
    }
    chain says_ipv6 {
        ip6 saddr 2001:db8:a:7::/64 goto speaks_ipv6
        ip6 saddr 2001:db8:a:77::/64 goto speaks_ipv6
        ip6 saddr fe80::1 counter name forged_ipv6 drop
        ip6 saddr fe80::/64 goto speaks_ipv6
        ip6 saddr :: icmpv6 type nd-neighbor-solicit goto claims
        ip6 saddr :: meta l4proto ipv6-icmp accept
        counter name forged_ipv6 drop
    }
    chain from_guest {
        type filter hook ingress device "cu7-0" priority filter; policy drop;
        ether saddr != 02:00:00:00:00:07 counter name forged_mac drop
        limit rate over 10000000 bytes/second drop
        meta protocol ip goto says_ipv4
        meta protocol ip6 goto says_ipv6
        meta protocol arp goto says_arp
        counter name forged_protocol drop
    }
}
"""


def test_a_guest_speaks_under_its_own_ipv4_address_only() -> None:
    assert rules.nic_rules("cu7-0", NIC) == IPV4_RULES


def test_a_guest_speaks_under_all_that_is_led_to_it_and_no_faster_than_it_may() -> None:
    assert rules.nic_rules("cu7-0", BOTH) == RULES


def test_a_guest_without_ipv4_says_nothing_in_it() -> None:
    text = rules.nic_rules("cu7-0", structs.replace(BOTH, ipv4=None, floating=()))
    assert "arp saddr ip" not in text
    assert "ip saddr 198" not in text


def test_taking_rules_away_works_whether_or_not_they_are_there() -> None:
    assert rules.no_nic_rules("cu7-0") == (
        "add table netdev cumulet_cu7-0\ndelete table netdev cumulet_cu7-0\n"
    )


@pytest.mark.parametrize(
    ("guest", "host"),
    [("02:00:00:00:00:07", "fe:00:00:00:00:07"), ("fe:00:00:00:00:07", "fa:00:00:00:00:07")],
)
def test_the_two_ends_of_a_link_never_have_one_mac(guest: str, host: str) -> None:
    assert links.host_mac(structs.replace(SPEC.nics[0], mac=guest)) == host
