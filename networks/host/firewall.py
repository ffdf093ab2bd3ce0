"""What passes between guests and the rest of the world → nftables text. Pure.

One table of the host, stateful. It keeps guests away from the host itself and from the networks
it lives on, and holds two chains for each NIC: what may come in, what may go out. A packet finds
its NIC's chains by one look-up of the interface's name, however many NICs there are. What comes
from the uplink for other networks of the host is not passed on: guests are what it forwards for.

Rules are asked for every packet that goes the way a connection was opened, not only for the
first: so a connection that a change forbids ends at once, one that is still allowed goes on, and
nothing has to be forgotten. Answers pass because of the way they go. Everything is declared and
emptied, never deleted: each text is one transaction, and leaves the rest of the table alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Literal

from networks.host.addresses import Network
from networks.spec import ROUTED_GATEWAY, ROUTED_GATEWAY6, FirewallSpec, RuleSpec

HOST_TABLE = "cumulet"
TAP_PATTERN = "cu*"
_CHAINS = ("to_host", "guests_abroad", "strangers", "through_host")

_SKELETON = f"""\
table inet {HOST_TABLE} {{
    set protected {{
        type ipv4_addr; flags interval; auto-merge
    }}
    set protected6 {{
        type ipv6_addr; flags interval; auto-merge
    }}
    map arriving {{
        type ifname : verdict
    }}
    map leaving {{
        type ifname : verdict
    }}
    chain guests_abroad {{
    }}
    chain strangers {{
    }}
    chain to_host {{
        type filter hook input priority filter; policy accept;
    }}
    chain through_host {{
        type filter hook forward priority filter; policy accept;
    }}
}}
"""

# Neighbour discovery is between a guest and its host; see networks.host.rules for what it says.
# DHCP is answered by networks.host.dhcp. Where the operator's own rules translate a stranger's
# packet, they mean it to go there.
_RULES = f"""\
table inet {HOST_TABLE} {{
    chain to_host {{
        iifname != "{TAP_PATTERN}" accept
        ct state established,related accept
        ip daddr {ROUTED_GATEWAY} icmp type echo-request accept
        ip6 daddr {ROUTED_GATEWAY6} icmpv6 type echo-request accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
        udp sport 68 udp dport 67 accept
        drop
    }}
    chain guests_abroad {{
        ct state established,related return
        meta l4proto {{ tcp, udp }} th dport 53 return
        ip saddr != @protected ip daddr @protected drop
        ip6 saddr != @protected6 ip6 daddr @protected6 drop
    }}
    chain strangers {{
        ct state established,related return
        ct status dnat return
        drop
    }}
    chain through_host {{
        iifname "{TAP_PATTERN}" jump guests_abroad
        iifname vmap @leaving
        oifname vmap @arriving
        iifname "%(uplink)s" oifname != "{TAP_PATTERN}" oifname != "%(uplink)s" jump strangers
    }}
}}
"""


def host_rules(protected: Iterable[Network], uplink: str) -> str:
    """The host's own rules. `protected`: networks that guests may not call, apart from DNS.

    A guest whose own address lies in a protected network is a neighbour there, and may.
    """
    known = sorted(protected, key=lambda network: (network.version, network))
    lines = [_SKELETON, *(f"flush chain inet {HOST_TABLE} {name}\n" for name in _CHAINS)]
    for name, version in (("protected", 4), ("protected6", 6)):
        lines.append(f"flush set inet {HOST_TABLE} {name}\n")
        members = ", ".join(str(network) for network in known if network.version == version)
        if members:
            lines.append(f"add element inet {HOST_TABLE} {name} {{ {members} }}\n")
    return "".join([*lines, _RULES % {"uplink": uplink}])


def arriving(tap: str) -> str:
    """The name of the chain with what may come in to a NIC."""
    return f"to_{tap}"


def leaving(tap: str) -> str:
    return f"from_{tap}"


def nic_rules(firewalls: Mapping[str, FirewallSpec | None]) -> str:
    """The chains of these TAPs in place of what was in them; `host_rules` come before it."""
    if not firewalls:
        return ""
    return nic_chains(HOST_TABLE, firewalls) + _led("add", firewalls)


def no_nic_rules(taps: Collection[str]) -> str:
    """Take the chains of these TAPs away, whether or not they are there."""
    if not taps:
        return ""
    return "".join(
        [
            _SKELETON,
            _emptied(HOST_TABLE, taps),
            _led("add", taps),
            _led("delete", taps),
            no_nic_chains(HOST_TABLE, taps),
        ]
    )


def nic_chains(
    table: str, firewalls: Mapping[str, FirewallSpec | None], leasing: Collection[str] = ()
) -> str:
    """Both chains of each TAP, in any table of the family inet: its own, or that of the bridge.

    `leasing`: those whose guests talk to a DHCP server outside.
    """
    lines = []
    for tap, firewall in firewalls.items():
        heard, said = (_TO_DHCP_CLIENT, _TO_DHCP_SERVER) if tap in leasing else ([], [])
        for name, rules in (
            (arriving(tap), [*heard, *_let_in(firewall)] if firewall else []),
            (leaving(tap), [*said, *_let_out(firewall)] if firewall else []),
        ):
            lines += [f"chain {name} {{", *(f"    {rule}" for rule in rules), "}"]
    body = "\n".join(f"    {line}" for line in lines)
    return f"{_emptied(table, firewalls)}table inet {table} {{\n{body}\n}}\n"


def no_nic_chains(table: str, taps: Iterable[str]) -> str:
    """Take away both chains of each TAP, which must be there and led to by nothing."""
    return "".join(
        f"delete chain inet {table} {name}\n"
        for tap in taps
        for name in (arriving(tap), leaving(tap))
    )


def _emptied(table: str, taps: Iterable[str]) -> str:
    return "".join(
        f"add chain inet {table} {name}\nflush chain inet {table} {name}\n"
        for tap in taps
        for name in (arriving(tap), leaving(tap))
    )


def _led(verb: Literal["add", "delete"], taps: Iterable[str]) -> str:
    """Have the packets of these TAPs led to their chains, or no more."""
    text = ""
    for way, chain in (("arriving", arriving), ("leaving", leaving)):
        members = ", ".join(f'"{tap}" : jump {chain(tap)}' for tap in taps)
        text += f"{verb} element inet {HOST_TABLE} {way} {{ {members} }}\n"
    return text


_ALL4, _ALL6 = ["0.0.0.0/0"], ["::/0"]
# An answer, or news about a connection such as "packet too big".
_ANSWERS = ["ct direction reply return", "ct state related return"]
# An answer to a broadcast is none for connection tracking.
_TO_DHCP_CLIENT = ["udp sport . udp dport { 67 . 68, 547 . 546 } return"]
_TO_DHCP_SERVER = ["udp sport . udp dport { 68 . 67, 546 . 547 } return"]


def _let_in(firewall: FirewallSpec) -> list[str]:
    passing = [rule for rule in firewall.rules if rule.direction == "in"]
    return [*_ANSWERS, *(line for rule in passing for line in _matches(rule, "saddr")), "drop"]


def _let_out(firewall: FirewallSpec) -> list[str]:
    passing = [rule for rule in firewall.rules if rule.direction == "out"]
    if not passing:
        return []
    return [*_ANSWERS, *(line for rule in passing for line in _matches(rule, "daddr")), "drop"]


def _matches(rule: RuleSpec, side: Literal["saddr", "daddr"]) -> list[str]:
    """A line for each family; none for a family that the rule names no network of."""
    networks = [ip_network(text, strict=False) for text in rule.networks]
    # Without overlaps, which a set of nftables does not take.
    apart4 = collapse_addresses(one for one in networks if isinstance(one, IPv4Network))
    apart6 = collapse_addresses(one for one in networks if isinstance(one, IPv6Network))
    four, six = [str(one) for one in apart4], [str(one) for one in apart6]
    icmp = rule.protocol == "icmp"
    if (four, six) == (_ALL4, _ALL6) and not icmp:
        return [f"{_what(rule)} return"]
    lines = []
    if four:
        what = "meta l4proto icmp" if icmp else _what(rule)
        lines.append(f"{_where('ip', 'ipv4', side, four)} {what} return")
    if six:
        what = "meta l4proto ipv6-icmp" if icmp else _what(rule)
        lines.append(f"{_where('ip6', 'ipv6', side, six)} {what} return")
    return lines


def _where(header: str, family: str, side: str, networks: list[str]) -> str:
    if networks in (_ALL4, _ALL6):
        return f"meta nfproto {family}"
    members = networks[0] if len(networks) == 1 else f"{{ {', '.join(networks)} }}"
    return f"{header} {side} {members}"


def _what(rule: RuleSpec) -> str:
    if rule.ports is None:
        return f"meta l4proto {rule.protocol}"
    first, last = rule.ports
    return f"{rule.protocol} dport {first if first == last else f'{first}-{last}'}"
