"""How many rules a text of ours makes, so that a missing one is seen."""

from __future__ import annotations

from msgspec import structs

from networks.host import firewall, rules
from networks.host.written import counts, flaw
from networks.spec import FirewallSpec, RuleSpec
from tests.documents import SPEC

NIC = structs.replace(SPEC.nics[0], ipv6="2001:db8:a:7::/64")


def test_each_line_of_a_chain_is_a_rule_but_for_its_hook() -> None:
    found = counts(rules.nic_rules("cu7-0", NIC))
    assert {chain: count for (_, chain), count in found.items()} == {
        "says_arp": 4,
        "says_ipv4": 5,
        "claims": 4,
        "says_icmpv6": 9,
        "speaks_ipv6": 4,
        "says_ipv6": 6,
        "from_guest": 5,
    }
    assert {table for table, _ in found} == {"cumulet_cu7-0"}


def test_chains_of_several_tables_are_told_apart() -> None:
    guarded = FirewallSpec((RuleSpec("in", "tcp", ("0.0.0.0/0", "::/0"), (80, 80)),))
    text = rules.nic_rules("cu7-0", NIC) + firewall.nic_rules({"cu7-0": guarded})
    found = counts(text)
    assert found["cumulet", "to_cu7-0"] == 4
    assert found["cumulet", "from_cu7-0"] == 0
    assert found["cumulet_cu7-0", "says_arp"] == 4


def test_too_few_and_too_many_are_flaws_and_others_chains_are_not() -> None:
    must = {("t", "a"): 2, ("t", "b"): 0}
    assert flaw(must, {("t", "a"): 2, ("t", "b"): 0, ("t", "other"): 9}) == ""
    assert flaw(must, {("t", "a"): 1, ("t", "b"): 0}) == "chain a of t has 1 of 2 rules"
    assert flaw(must, {("t", "a"): 2, ("t", "b"): 1}) == "chain b of t has 1 of 0 rules"
