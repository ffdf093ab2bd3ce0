"""NicSpec → nftables text: what a guest may send. Pure; applied by `networks.host.nft`.

Each TAP has a table of its own that sees every frame its guest sends before anything else does
(netdev ingress): the guest speaks under its own MAC and its own addresses only, ARP and neighbour
discovery included, and is neither router nor DHCP server. What is dropped is counted by reason;
the counters outlive a change of the rules. What guests may reach is in
`networks.host.firewall`.

Addresses are compared rule by rule: an anonymous set costs the kernel more than a NIC's whole
table, which counts when a host with hundreds of them comes up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv6Network

from networks.host import addresses
from networks.spec import ROUTED_GATEWAY6, NicSpec

# The reasons of networks.spec.NicReport; a prefix, because some are words of nft's language.
REASONS = ("mac", "ipv4", "ipv6", "arp", "nd", "dhcp_server", "ra", "protocol")
COUNTER_PREFIX = "forged_"
TABLE_PREFIX = "cumulet_"
# Seen by `networks.host.nft.chain_exists`.
ENTRY = "from_guest"

_LINK_LOCAL = IPv6Network("fe80::/64")
_BYTES_PER_MBIT = 125_000
# Type and length, in units of 8 bytes, of the options of RFC 4861, 4.6.1.
_SOURCE_LINK_ADDRESS, _TARGET_LINK_ADDRESS = "0101", "0201"


def nic_table(tap: str) -> str:
    """The name of a TAP's table, in the family netdev."""
    return f"{TABLE_PREFIX}{tap}"


def nic_rules(tap: str, nic: NicSpec) -> str:
    """The table of one TAP in place of what was in it. The TAP must exist."""
    chains = {
        "says_arp": _arp(nic),
        "says_ipv4": _ipv4(nic),
        **_ipv6_chains(nic),
        ENTRY: _entry(tap, nic),
    }
    return table_text(tap, chains)


def table_text(tap: str, chains: Mapping[str, Sequence[str]], sets: Iterable[str] = ()) -> str:
    """A TAP's table with these chains in place of those that were in it; counters stay.

    `sets`: their declarations, which keep what is in them.
    """
    table = nic_table(tap)
    lines = [f"counter {COUNTER_PREFIX}{reason} {{ }}" for reason in REASONS]
    lines += sets
    for name, rules in chains.items():
        lines += [f"chain {name} {{", *(f"    {rule}" for rule in rules), "}"]
    body = "\n".join(f"    {line}" for line in lines)
    return (
        f"add table netdev {table}\nflush table netdev {table}\n"
        f"table netdev {table} {{\n{body}\n}}\n"
    )


def no_nic_rules(tap: str) -> str:
    """Take the TAP's table away, whether or not it is there."""
    table = nic_table(tap)
    return f"add table netdev {table}\ndelete table netdev {table}\n"


def _entry(tap: str, nic: NicSpec) -> list[str]:
    return [
        f'type filter hook ingress device "{tap}" priority filter; policy drop;',
        f"ether saddr != {nic.mac} {drop('mac')}",
        *limit(nic.mbit_out),
        "meta protocol ip goto says_ipv4",
        "meta protocol ip6 goto says_ipv6",
        "meta protocol arp goto says_arp",
        drop("protocol"),
    ]


def limit(mbit: int | None) -> list[str]:
    """The kernel's bucket holds one second's bytes: after a rest as much passes at once."""
    if mbit is None:
        return []
    return [f"limit rate over {mbit * _BYTES_PER_MBIT} bytes/second drop"]


def _arp(nic: NicSpec) -> list[str]:
    """A probe (RFC 5227) has no sender yet, and asks for the address that it is about to take."""
    own = addresses.ipv4(nic)
    return [
        f"arp saddr ether != {nic.mac} {drop('arp')}",
        *(f"arp saddr ip {address} accept" for address in own),
        *(f"arp saddr ip 0.0.0.0 arp daddr ip {address} accept" for address in own),
        drop("arp"),
    ]


def _ipv4(nic: NicSpec) -> list[str]:
    return [
        *no_dhcp_server(server=67, client=68),
        *(f"ip saddr {address} accept" for address in addresses.ipv4(nic)),
        "ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept",
        drop("ipv4"),
    ]


def _ipv6_chains(nic: NicSpec) -> dict[str, list[str]]:
    own = addresses.ipv6(nic)
    if not own:
        # Every kernel introduces itself on its link; without an address that is no forgery.
        silent = [f"ip6 saddr {source} drop" for source in ("::", _LINK_LOCAL)]
        return {"says_ipv6": [*silent, drop("ipv6")]}
    return {
        "claims": _claims(own),
        "says_icmpv6": says_icmpv6(nic.mac),
        "speaks_ipv6": speaks_ipv6(),
        "says_ipv6": [
            *(f"ip6 saddr {network} goto speaks_ipv6" for network in own),
            f"ip6 saddr {ROUTED_GATEWAY6} {drop('ipv6')}",
            f"ip6 saddr {_LINK_LOCAL} goto speaks_ipv6",
            # Before it has an address: is this one free, which routers and groups are there.
            "ip6 saddr :: icmpv6 type nd-neighbor-solicit goto claims",
            "ip6 saddr :: meta l4proto ipv6-icmp accept",
            drop("ipv6"),
        ],
    }


def speaks_ipv6() -> list[str]:
    """What may come from an address of the guest's own."""
    return [
        "meta l4proto ipv6-icmp goto says_icmpv6",
        *no_dhcp_server(server=547, client=546),
        "accept",
    ]


def no_dhcp_server(*, server: int, client: int) -> list[str]:
    """Known by either port: most clients do not look at the one that an answer comes from."""
    ends = ("sport", server), ("dport", client)
    return [f"udp {end} {port} {drop('dhcp_server')}" for end, port in ends]


def says_icmpv6(mac: str) -> list[str]:
    """Neighbour discovery (RFC 4861, 4.3 and 4.4): 24 bytes, and 8 with the option that there is.

    Extension headers and fragments could hide another message, and are refused (RFC 6980).
    """
    address = mac.replace(":", "")
    solicit, advert = "icmpv6 type nd-neighbor-solicit", "icmpv6 type nd-neighbor-advert"
    return [
        f"icmpv6 type nd-router-advert {drop('ra')}",
        "icmpv6 type < nd-neighbor-solicit accept",
        "icmpv6 type > nd-redirect accept",
        f"ip6 nexthdr != ipv6-icmp {drop('nd')}",
        f"{solicit} ip6 length 24 accept",
        f"{solicit} ip6 length 32 @th,192,64 0x{_SOURCE_LINK_ADDRESS}{address} accept",
        f"{advert} ip6 length 24 goto claims",
        f"{advert} ip6 length 32 @th,192,64 0x{_TARGET_LINK_ADDRESS}{address} goto claims",
        drop("nd"),
    ]


def _claims(own: list[IPv6Network]) -> list[str]:
    """The target of a message, 8 bytes into it, is the guest's."""
    return [
        f"@th,64,128 {leading_bits(IPv6Network(ROUTED_GATEWAY6))} {drop('nd')}",
        *(
            f"@th,64,{network.prefixlen} {leading_bits(network)} accept"
            for network in (*own, _LINK_LOCAL)
        ),
        drop("nd"),
    ]


def leading_bits(network: IPv6Network) -> str:
    return f"0x{int(network.network_address) >> (128 - network.prefixlen):x}"


def drop(reason: str) -> str:
    """Drop and count; one of REASONS."""
    return f"counter name {COUNTER_PREFIX}{reason} drop"
