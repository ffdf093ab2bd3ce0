"""The nftables text of a host's packet filter, word for word."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from networks.host import firewall
from networks.spec import FirewallSpec, RuleSpec

ANYBODY = ("0.0.0.0/0", "::/0")
FIREWALL = FirewallSpec(
    (
        RuleSpec("in", "tcp", ANYBODY, (80, 80)),
        RuleSpec("in", "udp", ("192.0.2.0/24", "203.0.113.9/32"), (5000, 5010)),
        RuleSpec("in", "icmp", ANYBODY),
        RuleSpec("in", "gre", ("203.0.113.0/24",)),
        RuleSpec("out", "tcp", ("0.0.0.0/0",), (443, 443)),
    )
)
TEXT = """\
add chain inet cumulet to_cu7-0
flush chain inet cumulet to_cu7-0
add chain inet cumulet from_cu7-0
flush chain inet cumulet from_cu7-0
table inet cumulet {
    chain to_cu7-0 {
        ct direction reply return
        ct state related return
        tcp dport 80 return
        ip saddr { 192.0.2.0/24, 203.0.113.9/32 } udp dport 5000-5010 return
        meta nfproto ipv4 meta l4proto icmp return
        meta nfproto ipv6 meta l4proto ipv6-icmp return
        ip saddr 203.0.113.0/24 meta l4proto gre return
        drop
    }
    chain from_cu7-0 {
        ct direction reply return
        ct state related return
        meta nfproto ipv4 tcp dport 443 return
        drop
    }
}
add element inet cumulet arriving { "cu7-0" : jump to_cu7-0 }
add element inet cumulet leaving { "cu7-0" : jump from_cu7-0 }
"""


def rules_of(firewalled: FirewallSpec | None) -> dict[str, list[str]]:
    """The rules by chain."""
    text = firewall.nic_rules({"cu7-0": firewalled}).split("table inet cumulet {\n")[1]
    chains = text.split("    chain ")[1:]
    return {
        chain.split(" ", 1)[0]: [
            line.strip() for line in chain.split("\n    }")[0].splitlines()[1:]
        ]
        for chain in chains
    }


def test_rules_become_lines_one_for_each_family_where_it_matters() -> None:
    assert firewall.nic_rules({"cu7-0": FIREWALL}) == TEXT


def test_without_a_firewall_everything_passes() -> None:
    assert rules_of(None) == {"to_cu7-0": [], "from_cu7-0": []}


def test_without_rules_nothing_comes_in_but_answers_and_everything_goes_out() -> None:
    rules = rules_of(FirewallSpec())
    assert rules["to_cu7-0"] == ["ct direction reply return", "ct state related return", "drop"]
    assert rules["from_cu7-0"] == []


def test_networks_that_overlap_are_one() -> None:
    rule = RuleSpec("in", "esp", ("192.0.2.0/24", "192.0.2.128/25", "192.0.2.7/32"))
    assert (
        "ip saddr 192.0.2.0/24 meta l4proto esp return"
        in rules_of(FirewallSpec((rule,)))["to_cu7-0"]
    )


def test_the_chains_of_many_interfaces_are_one_text() -> None:
    text = firewall.nic_rules({"cu7-0": None, "cu8-0": FIREWALL})
    assert text.count("table inet cumulet {") == 1
    assert 'arriving { "cu7-0" : jump to_cu7-0, "cu8-0" : jump to_cu8-0 }' in text


@pytest.mark.parametrize("text", [firewall.nic_rules({}), firewall.no_nic_rules([])])
def test_no_interfaces_no_text(text: str) -> None:
    assert text == ""


def test_the_host_s_networks_are_closed_to_guests() -> None:
    networks = map(ip_network, ("192.0.2.0/24", "10.0.0.0/8", "2001:db8::/64"))
    text = firewall.host_rules(networks, "eth0")
    assert "add element inet cumulet protected { 10.0.0.0/8, 192.0.2.0/24 }" in text
    assert "add element inet cumulet protected6 { 2001:db8::/64 }" in text
    assert "ip saddr != @protected ip daddr @protected drop" in text


def test_without_networks_to_protect_the_sets_are_empty_and_the_text_still_whole() -> None:
    text = firewall.host_rules([], "eth0")
    assert "add element" not in text
    assert "flush set inet cumulet protected6" in text
