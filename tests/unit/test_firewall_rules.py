"""Firewall rules: what is legal, how refusals are named, and what hosts are told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.errors import InvalidInput
from networks.firewalls.rules import check_rules, merged
from networks.spec import RuleSpec

SSH = {"direction": "in", "protocol": "tcp", "port": "22", "source_ips": ["0.0.0.0/0", "::/0"]}


def rule(**changes: Any) -> dict[str, Any]:
    """A legal rule but for the changes; None leaves a key out."""
    return {key: value for key, value in {**SSH, **changes}.items() if value is not None}


def refused_fields(document: object) -> list[str]:
    with pytest.raises(InvalidInput) as refused:
        check_rules(document)
    assert refused.value.details is not None
    return [field["name"] for field in refused.value.details["fields"]]


def test_a_rule_is_kept_with_every_key() -> None:
    assert check_rules([SSH]) == [{**SSH, "destination_ips": [], "description": None}]


def test_the_order_of_rules_and_networks_is_kept() -> None:
    rules = [rule(port=port) for port in ("443", "22", "80")]
    assert [one["port"] for one in check_rules(rules)] == ["443", "22", "80"]
    networks = ["10.2.0.0/16", "10.1.0.0/16", "::/0", "0.0.0.0/0"]
    assert check_rules([rule(source_ips=networks)])[0]["source_ips"] == networks


@pytest.mark.parametrize(
    ("text", "usual"),
    [
        ("192.0.2.7/32", "192.0.2.7/32"),
        ("2001:DB8:0:0::/32", "2001:db8::/32"),
        ("2001:db8:0:0:0:0:0:1/128", "2001:db8::1/128"),
        ("2001:0db8:0000:0001::/64", "2001:db8:0:1::/64"),
    ],
)
def test_a_network_is_written_in_its_usual_form(text: str, usual: str) -> None:
    assert check_rules([rule(source_ips=[text])])[0]["source_ips"] == [usual]


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1/8", "2001:db8::1/32", "10.0.0.0", "::1", "10.0.0.0/33", "::/129",
     "10.0.0.0/255.0.0.0", "10.0.0.0/-1", "fe80::%1/64", "010.0.0.0/8", "10.0.0/8", "any", "",
     " 10.0.0.0/8", "10.0.0.0/8\n", None, 7, ["10.0.0.0/8"], {}],
)  # fmt: skip
def test_a_bad_network_is_named_by_its_place(text: object) -> None:
    rules = [SSH, rule(source_ips=["10.0.0.0/8", text])]
    assert refused_fields(rules) == ["rules.1.source_ips.1"]


@pytest.mark.parametrize("port", ["80", "1", "65535", "1024-5000", "80-80", "1-65535"])
def test_a_port_or_a_range_is_legal(port: str) -> None:
    assert check_rules([rule(port=port)])[0]["port"] == port


@pytest.mark.parametrize(
    "port",
    ["0", "65536", "5000-1024", "1-65536", "080", "80-", "-80", "80,443", "80 - 90", "any", "",
     "80\n", 80, ["80"], "٣"],
)  # fmt: skip
def test_a_bad_port_is_named(port: object) -> None:
    assert refused_fields([rule(port=port)]) == ["rules.0.port"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"direction": "both"}, "direction"),
        ({"direction": None}, "direction"),
        ({"direction": ["in"]}, "direction"),
        ({"protocol": "sctp"}, "protocol"),
        ({"protocol": None}, "protocol"),
        ({"protocol": "icmp"}, "port"),
        ({"protocol": "gre", "port": "22"}, "port"),
        ({"protocol": "udp", "port": None}, "port"),
        ({"source_ips": None}, "source_ips"),
        ({"source_ips": []}, "source_ips"),
        ({"source_ips": "0.0.0.0/0"}, "source_ips"),
        ({"source_ips": ["10.0.0.0/8"] * 101}, "source_ips"),
        ({"destination_ips": ["10.0.0.0/8"]}, "destination_ips"),
        ({"direction": "out", "source_ips": None}, "destination_ips"),
        ({"description": "d" * 256}, "description"),
        ({"description": 7}, "description"),
        ({"description": "\0"}, "description"),
        ({"description": "\ud800"}, "description"),
    ],
)
def test_what_is_wrong_with_a_rule_is_named(changes: dict[str, Any], field: str) -> None:
    assert refused_fields([rule(**changes)]) == [f"rules.0.{field}"]


@pytest.mark.parametrize("document", [None, {}, "[]", [SSH] * 51])
def test_what_is_no_list_of_rules_is_refused(document: object) -> None:
    assert refused_fields(document) == ["rules"]


def test_a_rule_that_is_no_object_is_named() -> None:
    assert refused_fields([SSH, "22"]) == ["rules.1"]


def test_all_that_is_wrong_is_told_at_once() -> None:
    rules = [rule(port="x", direction="y"), SSH, rule(source_ips=["z", "10.0.0.1/8"])]
    assert set(refused_fields(rules)) == {
        "rules.0.port", "rules.0.direction", "rules.2.source_ips.0", "rules.2.source_ips.1",
    }  # fmt: skip


def test_the_limits_are_met_exactly() -> None:
    assert len(check_rules([SSH] * 50)) == 50
    hundred = rule(source_ips=[f"10.0.{number}.0/24" for number in range(100)])
    assert len(check_rules([hundred] * 5)) == 5
    assert refused_fields([hundred] * 5 + [rule(source_ips=["10.0.0.0/8"])]) == ["rules"]


def test_no_rules_are_legal() -> None:
    assert check_rules([]) == []


NONSENSE = st.none() | st.integers() | st.text(max_size=5) | st.just([]) | st.just({})
NETWORKS = st.lists(NONSENSE | st.sampled_from(["10.0.0.0/8", "10.0.0.1/8", "::/0"]), max_size=3)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "direction": NONSENSE | st.sampled_from(["in", "out"]),
        "protocol": NONSENSE | st.sampled_from(["tcp", "icmp"]),
        "port": NONSENSE | st.sampled_from(["80", "80-90", "90-80"]),
        "source_ips": NONSENSE | NETWORKS,
        "destination_ips": NONSENSE | NETWORKS,
        "description": NONSENSE,
    },
)


@given(st.lists(NONSENSE | RULES, max_size=3))
def test_any_document_is_read_or_refused(document: object) -> None:
    try:
        rules = check_rules(document)
    except InvalidInput:
        return
    assert check_rules(rules) == rules
    assert len(merged([rules]).rules) == len(rules)


def test_firewalls_are_merged_in_their_order_for_the_host() -> None:
    web = check_rules([rule(port="80"), rule(port="1024-5000", protocol="udp")])
    out = check_rules(
        [{"direction": "out", "protocol": "icmp", "destination_ips": ["10.0.0.0/8", "10.0.0.0/8"]}]
    )
    everybody = ("0.0.0.0/0", "::/0")
    assert merged([web, [], out]).rules == (
        RuleSpec("in", "tcp", everybody, (80, 80)),
        RuleSpec("in", "udp", everybody, (1024, 5000)),
        RuleSpec("out", "icmp", ("10.0.0.0/8",)),
    )


def test_a_firewall_without_rules_is_not_the_same_as_none() -> None:
    assert merged([[]]).rules == ()
