"""NicSpec → nftables text of a bridged guest: what it may send into the network it shares. Pure.

Each TAP has a table of its own, as in the routed mode (`networks.host.rules`), which sees every
frame before the bridge does. What is dropped is counted by reason; counters and learned addresses
outlive a replacement of the rules. Where the outside network gives addresses, the DHCP server's
acknowledgements on their way to the guest say which are the guest's: from the first on it speaks
under those only.

A guest's IPv6 link-local address, and with `dhcp` every IPv6 address, is made of its MAC (EUI-64,
RFC 4291 appendix A), so that it can be checked without having been learned.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeVar

from networks.host.rules import TAP_PATTERN, nic_table
from networks.spec import NicSpec

Network = TypeVar("Network", IPv4Network, IPv6Network)

HOST_TABLE = "cumulet_bridge"
LEARNED = "learned"
SPOKEN = "spoken"
SPOKEN6 = "spoken6"
# A prefix, because some reasons are words of nft's language.
COUNTER_PREFIX = "forged_"
REASONS = ("mac", "ipv4", "ipv6", "arp", "nd", "dhcp_server", "ra")

# "cubr": on frames from bridged guests, which come to the host through the bridge like any other.
_MARK = 0x63756272
_SET_SIZE = 8
# Where things lie behind a UDP or ICMPv6 header, in bits: RFC 2131, RFC 4861.
_CLIENT_MAC = "@th,288,48"
_YOUR_ADDRESS = "@th,192,32"
# Option 53, DHCPACK; servers send it as the first option.
_ACKNOWLEDGED = "@th,1984,24 0x350105"
_LEASE_KEPT = "30d"
_SPOKEN_KEPT = "10m"


def nic_rules(tap: str, nic: NicSpec) -> str:
    """The table of one TAP, with its rules replaced. The TAP must exist."""
    table = f"netdev {nic_table(tap)}"
    chains, sets = _chains(tap, nic), []
    if nic.dhcp:
        chains["to_guest"] = _to_guest(tap, nic)
        sets = [
            _set(LEARNED, "ipv4_addr", _LEASE_KEPT),
            _set("pinned", "iface_index", _LEASE_KEPT),
            _set(SPOKEN, "ipv4_addr", _SPOKEN_KEPT),
            _set(SPOKEN6, "ipv6_addr", _SPOKEN_KEPT),
        ]
    counters = [f"    counter {COUNTER_PREFIX}{reason} {{ }}" for reason in REASONS]
    body = "\n".join([*counters, *sets, *(_chain(*chain) for chain in chains.items())])
    return f"add table {table}\nflush table {table}\n\ntable {table} {{\n{body}\n}}\n"


def forget(tap: str, addresses: Iterable[str]) -> str:
    """Make the guest speak no more under addresses that were learned."""
    return f"delete element netdev {nic_table(tap)} {LEARNED} {{ {', '.join(addresses)} }}\n"


def host_rules(mac: str) -> str:
    """The host's table: bridged guests reach the host itself no more than routed ones do.

    They are neighbours in its network all the same: ND is answered, and answers pass. Where the
    kernel has br_netfilter, frames that are not for the host, whose MAC is `mac`, come by here too.
    """
    return f"""{no_host_rules()}
table inet {HOST_TABLE} {{
    chain to_host {{
        type filter hook input priority filter; policy accept;
        meta mark != {_MARK:#x} accept
        ct state established,related accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
        udp sport 68 udp dport 67 accept
        drop
    }}
    chain through_host {{
        type filter hook forward priority filter; policy accept;
        meta mark != {_MARK:#x} accept
        ether daddr != {mac} accept
        ct state established,related accept
        oifname != "{TAP_PATTERN}" drop
    }}
}}
"""


def no_host_rules() -> str:
    """Take the host's table away, whether or not it is there."""
    return f"add table inet {HOST_TABLE}\ndelete table inet {HOST_TABLE}\n"


def _chains(tap: str, nic: NicSpec) -> dict[str, list[str]]:
    return {
        "claims": _claims(nic),
        "says_icmpv6": _icmpv6(nic.mac),
        "speaks_ipv6": [
            "meta l4proto ipv6-icmp goto says_icmpv6",
            f"udp sport 547 {_drop('dhcp_server')}",
            "accept",
        ],
        "says_ipv6": [
            *_own_ipv6(nic),
            # Before it has an address: is this one free, which routers and groups are there.
            "ip6 saddr :: icmpv6 type nd-neighbor-solicit goto claims",
            "ip6 saddr :: icmpv6 type { nd-router-solicit, 143 } accept",
            _drop("ipv6"),
        ],
        "says_ipv4": [
            f"udp sport 67 {_drop('dhcp_server')}",
            "ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept",
            *_own_ipv4(nic, "ip saddr", "ipv4"),
            "accept",
        ],
        "says_arp": [
            f"arp saddr ether != {nic.mac} {_drop('arp')}",
            "arp saddr ip 0.0.0.0 accept",
            *_own_ipv4(nic, "arp saddr ip", "arp"),
            *([f"update @{SPOKEN} {{ arp saddr ip }}"] if nic.dhcp else []),
            "accept",
        ],
        "from_guest": [
            f'type filter hook ingress device "{tap}" priority filter; policy drop;',
            f"meta mark set {_MARK:#x}",
            # A tag would lead the frame into a network that the guest is not in.
            "ether type { 8021q, 0x88a8 } drop",
            f"ether saddr != {nic.mac} {_drop('mac')}",
            "meta protocol ip goto says_ipv4",
            "meta protocol ip6 goto says_ipv6",
            "meta protocol arp goto says_arp",
        ],
    }


def _own_ipv4(nic: NicSpec, sender: str, reason: str) -> list[str]:
    """Drop what comes from another address; while none has been learned, nothing."""
    given = [nic.ipv4] if nic.ipv4 else []
    own = [*given, *(str(network.network_address) for network in _floating(nic, IPv4Network))]
    passing = [f"{sender} {address} accept" for address in own]
    if nic.dhcp:
        return [*passing, f"iif @pinned {sender} != @{LEARNED} {_drop(reason)}"]
    return [*passing, _drop(reason)]


def _own_ipv6(nic: NicSpec) -> list[str]:
    own = [f"ip6 saddr {network} goto speaks_ipv6" for network in _ipv6(nic)]
    if nic.dhcp:
        made = f"ip6 saddr & ::ffff:ffff:ffff:ffff == {IPv6Address(_interface_id(nic.mac))}"
        own += [f"{made} update @{SPOKEN6} {{ ip6 saddr }}", f"{made} goto speaks_ipv6"]
    return own


def _icmpv6(mac: str) -> list[str]:
    """Neighbour discovery (RFC 4861, 4.3 and 4.4): 24 bytes, and 8 with the option that there is.

    Extension headers and fragments could hide another message, and are refused (RFC 6980).
    """
    address = mac.replace(":", "")
    solicit, advert = "icmpv6 type nd-neighbor-solicit", "icmpv6 type nd-neighbor-advert"
    return [
        f"icmpv6 type {{ nd-router-advert, nd-redirect }} {_drop('ra')}",
        "icmpv6 type != { nd-neighbor-solicit, nd-neighbor-advert } accept",
        f"ip6 nexthdr != ipv6-icmp {_drop('nd')}",
        f"{solicit} ip6 length 24 accept",
        f"{solicit} ip6 length 32 @th,192,64 0x0101{address} accept",
        f"{advert} ip6 length 24 goto claims",
        f"{advert} ip6 length 32 @th,192,64 0x0201{address} goto claims",
        _drop("nd"),
    ]


def _claims(nic: NicSpec) -> list[str]:
    """The target of a message, 8 bytes into it, is the guest's."""
    own = [f"@th,64,{network.prefixlen} {_bits(network):#x} accept" for network in _ipv6(nic)]
    if nic.dhcp:
        own.append(f"@th,128,64 {_interface_id(nic.mac):#x} accept")
    return [*own, _drop("nd")]


def _to_guest(tap: str, nic: NicSpec) -> list[str]:
    """Learn from what a DHCP server acknowledges to this very guest."""
    client = f"{_CLIENT_MAC} 0x{nic.mac.replace(':', '')}"
    return [
        f'type filter hook egress device "{tap}" priority filter; policy accept;',
        f"meta protocol ip udp sport 67 udp dport 68 {client} {_ACKNOWLEDGED}"
        f" update @{LEARNED} {{ {_YOUR_ADDRESS} }} update @pinned {{ oif }}",
    ]


def _ipv6(nic: NicSpec) -> list[IPv6Network]:
    given = [IPv6Network(nic.ipv6, strict=False)] if nic.ipv6 else []
    return [_link_local(nic.mac), *given, *_floating(nic, IPv6Network)]


def _floating(nic: NicSpec, family: type[Network]) -> list[Network]:
    networks = [ip_network(address, strict=False) for address in nic.floating]
    return [network for network in networks if isinstance(network, family)]


def _interface_id(mac: str) -> int:
    """EUI-64 with the universal bit turned over; RFC 4291, appendix A."""
    first, *rest = bytes.fromhex(mac.replace(":", ""))
    return int.from_bytes(bytes([first ^ 2, *rest[:2], 0xFF, 0xFE, *rest[2:]]))


def _link_local(mac: str) -> IPv6Network:
    return IPv6Network((0xFE80 << 112) | _interface_id(mac))


def _bits(network: IPv6Network) -> int:
    return int(network.network_address) >> (128 - network.prefixlen)


def _chain(name: str, rules: list[str]) -> str:
    lines = "\n".join(f"        {rule}" for rule in rules)
    return f"    chain {name} {{\n{lines}\n    }}"


def _set(name: str, kind: str, kept: str) -> str:
    return (
        f"    set {name} {{\n        type {kind}\n        flags dynamic, timeout\n"
        f"        size {_SET_SIZE}\n        timeout {kept}\n    }}"
    )


def _drop(reason: str) -> str:
    return f"counter name {COUNTER_PREFIX}{reason} drop"
