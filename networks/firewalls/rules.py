"""Firewall rules in the contract's form: checked, and as a host is told them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any, Literal, TypedDict, get_args

from cloud.errors import invalid, invalid_fields
from networks.spec import FirewallSpec, RuleSpec

Direction = Literal["in", "out"]
Protocol = Literal["tcp", "udp", "icmp", "esp", "gre"]

DIRECTIONS: tuple[str, ...] = get_args(Direction)
PROTOCOLS: tuple[str, ...] = get_args(Protocol)
PROTOCOLS_WITH_PORTS = ("tcp", "udp")

# Limits of the contract. Effective rules are pairs of a rule and one of its networks.
MAX_RULES = 50
MAX_NETWORKS = 100
MAX_EFFECTIVE_RULES = 500
MAX_DESCRIPTION = 255

_CIDR = re.compile(r"[0-9A-Fa-f.:]+/[0-9]{1,3}\Z")
_PORTS = re.compile(r"(?P<first>[1-9][0-9]{0,4})(?:-(?P<last>[1-9][0-9]{0,4}))?\Z")
# The key that names the other side, by direction, and the one that has to be empty then.
_SIDES = {"in": ("source_ips", "destination_ips"), "out": ("destination_ips", "source_ips")}


class Rule(TypedDict):
    """One rule as it is stored and answered. `port`: "80" or "1024-5000", for TCP and UDP."""

    direction: Direction
    protocol: Protocol
    port: str | None
    source_ips: list[str]
    destination_ips: list[str]
    description: str | None


def check_rules(document: object) -> list[Rule]:
    """The rules in their order, with every key, and every network in its usual form.

    Raises InvalidInput that names all that is wrong, as in `rules.0.source_ips.2`.
    """
    if not isinstance(document, list):
        raise invalid("rules", "must be a list")
    if len(document) > MAX_RULES:
        raise invalid("rules", f"are {len(document)}, more than the {MAX_RULES} of a firewall")
    problems = {
        f"rules.{index}.{key}".rstrip("."): problem
        for index, rule in enumerate(document)
        for key, problem in _problems(rule)
    }
    if problems:
        raise invalid_fields(problems)
    rules = [_complete(rule) for rule in document]
    effective = sum(len(networks_of(rule)) for rule in rules)
    if effective > MAX_EFFECTIVE_RULES:
        raise invalid(
            "rules",
            f"have {effective} networks in all, more than the {MAX_EFFECTIVE_RULES} of a firewall",
        )
    return rules


def networks_of(rule: Rule) -> list[str]:
    """The other side: where a rule's traffic comes from or goes to."""
    return rule["source_ips"] if rule["direction"] == "in" else rule["destination_ips"]


def merged(firewalls: Iterable[Iterable[Rule]]) -> FirewallSpec:
    """The rules of several firewalls as the one list that a host applies."""
    return FirewallSpec(rules=tuple(_spec(rule) for rules in firewalls for rule in rules))


def _spec(rule: Rule) -> RuleSpec:
    return RuleSpec(
        direction=rule["direction"],
        protocol=rule["protocol"],
        networks=tuple(dict.fromkeys(networks_of(rule))),
        ports=_ports(rule["port"]) if rule["port"] else None,
    )


def _complete(rule: Mapping[str, Any]) -> Rule:
    """A rule without problems, with all keys."""
    return Rule(
        direction=rule["direction"],
        protocol=rule["protocol"],
        port=rule.get("port"),
        source_ips=[_network(text) for text in rule.get("source_ips") or ()],
        destination_ips=[_network(text) for text in rule.get("destination_ips") or ()],
        description=rule.get("description"),
    )


def _problems(rule: object) -> Iterator[tuple[str, str]]:
    """What is wrong with one rule, with the key where it is."""
    if not isinstance(rule, dict):
        yield "", "must be an object"
        return
    protocol, description = rule.get("protocol"), rule.get("description")
    if protocol not in PROTOCOLS:
        yield "protocol", f"must be one of {', '.join(PROTOCOLS)}"
    else:
        yield from _port_problems(protocol, rule.get("port"))
    if rule.get("direction") not in DIRECTIONS:
        yield "direction", f"must be one of {', '.join(DIRECTIONS)}"
    else:
        yield from _network_problems(rule, *_SIDES[rule["direction"]])
    if description is not None and not _is_text(description):
        yield "description", f"must be text of at most {MAX_DESCRIPTION} characters"


def _is_text(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= MAX_DESCRIPTION
        and value.replace("\n", " ").isprintable()
    )


def _port_problems(protocol: str, port: object) -> Iterator[tuple[str, str]]:
    if protocol not in PROTOCOLS_WITH_PORTS:
        if port is not None:
            yield "port", f"is not possible with {protocol}: leave it out"
    elif port is None:
        yield "port", f"is needed with {protocol}, such as 80 or 1024-5000"
    else:
        try:
            _ports(port)
        except ValueError as error:
            yield "port", str(error)


def _network_problems(
    rule: Mapping[str, Any], key: str, other_key: str
) -> Iterator[tuple[str, str]]:
    if rule.get(other_key):
        yield other_key, f"is not possible with direction {rule['direction']}: use {key}"
    networks = rule.get(key)
    if not isinstance(networks, list) or not networks:
        yield key, "needs at least one network, such as 0.0.0.0/0"
    elif len(networks) > MAX_NETWORKS:
        yield key, f"are {len(networks)}, more than the {MAX_NETWORKS} of a rule"
    else:
        for index, text in enumerate(networks):
            try:
                _network(text)
            except ValueError as error:
                yield f"{key}.{index}", str(error)


def _ports(text: object) -> tuple[int, int]:
    """First and last port; raises ValueError with what is wrong."""
    match = _PORTS.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("must be a string such as 80 or 1024-5000")
    first = int(match["first"])
    last = int(match["last"] or first)
    if not first <= last <= 65535:
        raise ValueError(f"{text} is not a range between 1 and 65535")
    return first, last


def _network(text: object) -> str:
    """The network, IPv6 as RFC 5952 writes it; raises ValueError with what is wrong."""
    if not isinstance(text, str) or not _CIDR.match(text):
        raise ValueError("must be a network such as 192.0.2.0/24, 192.0.2.7/32 or 2001:db8::/32")
    return str(ip_network(text))
