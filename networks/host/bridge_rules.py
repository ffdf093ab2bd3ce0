"""NicSpec → nftables text of a bridged guest: what it may send into the network it shares. Pure.

Each TAP has a table of its own, as in the routed mode (`networks.host.rules`), which sees every
frame before the bridge does. What is dropped is counted by reason; counters and learned addresses
outlive a replacement of the rules. Where the outside network gives addresses, the DHCP server's
acknowledgements on their way to the guest say which are the guest's: from the first on it speaks
under those only.

What comes to the guest has passed its firewall (`networks.host.bridge_firewall`), which is shown IP
alone. Neither another protocol goes past that nor a frame with a tag (guests take tag 0 for none),
nor what the host routes to an address that the firewall does not know.

A guest's IPv6 link-local address, and with `dhcp` every IPv6 address, is made of its MAC (EUI-64,
RFC 4291 appendix A), so that it can be checked without having been learned.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network

from networks.host import addresses, rules
from networks.host.bridge_firewall import MARK, UNJUDGED
from networks.host.rules import nic_table
from networks.spec import NicSpec

LEARNED = "learned"
SPOKEN = "spoken"
SPOKEN6 = "spoken6"

_SET_SIZE = 8
# Where things lie behind a UDP or ICMPv6 header, in bits: RFC 2131, RFC 4861.
_CLIENT_MAC = "@th,288,48"
_YOUR_ADDRESS = "@th,192,32"
# Option 53, DHCPACK; servers send it as the first option.
_ACKNOWLEDGED = "@th,1984,24 0x350105"
_LEASE_KEPT = "30d"
_SPOKEN_KEPT = "10m"


def nic_rules(tap: str, nic: NicSpec, host: str) -> str:
    """The table of one TAP, with its rules replaced. The TAP must exist.

    `host`: the host's own address in the network.
    """
    chains, sets = _chains(tap, nic, host), []
    if nic.dhcp:
        sets = [
            _set(LEARNED, "ipv4_addr", _LEASE_KEPT),
            _set("pinned", "iface_index", _LEASE_KEPT),
            _set(SPOKEN, "ipv4_addr", _SPOKEN_KEPT),
            _set(SPOKEN6, "ipv6_addr", _SPOKEN_KEPT),
        ]
    return rules.table_text(tap, chains, sets)


def forget(tap: str, addresses: Iterable[str]) -> str:
    """Make the guest speak no more under addresses that were learned."""
    return f"delete element netdev {nic_table(tap)} {LEARNED} {{ {', '.join(addresses)} }}\n"


def ipv6_chains(nic: NicSpec) -> dict[str, list[str]]:
    """What the guest may say of IPv6 in its own name; `says_ipv6` is where it begins."""
    return {
        "claims": _claims(nic),
        "says_icmpv6": rules.says_icmpv6(nic.mac),
        "speaks_ipv6": rules.speaks_ipv6(),
        "says_ipv6": [
            *_own_ipv6(nic),
            # Before it has an address: is this one free, which routers and groups are there.
            "ip6 saddr :: icmpv6 type nd-neighbor-solicit goto claims",
            "ip6 saddr :: icmpv6 type { nd-router-solicit, 143 } accept",
            rules.drop("ipv6"),
        ],
    }


def _chains(tap: str, nic: NicSpec, host: str) -> dict[str, list[str]]:
    return {
        **ipv6_chains(nic),
        "says_ipv4": [
            *rules.no_dhcp_server(server=67, client=68),
            "ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept",
            *_own_ipv4(nic, host, "ip saddr", "ipv4"),
        ],
        "says_arp": [
            f"arp saddr ether != {nic.mac} {rules.drop('arp')}",
            *_probes(nic),
            *_own_ipv4(nic, host, "arp saddr ip", "arp"),
        ],
        rules.ENTRY: [
            f'type filter hook ingress device "{tap}" priority filter; policy drop;',
            f"meta mark set {MARK:#x}",
            # A tag would lead the frame into a network that the guest is not in.
            f"ether type {{ 8021q, 0x88a8 }} {rules.drop('protocol')}",
            f"ether saddr != {nic.mac} {rules.drop('mac')}",
            *rules.limit(nic.mbit_out),
            "meta protocol ip goto says_ipv4",
            "meta protocol ip6 goto says_ipv6",
            "meta protocol arp goto says_arp",
            rules.drop("protocol"),
        ],
        "to_guest": [
            f'type filter hook egress device "{tap}" priority filter; policy drop;',
            *([f"meta mark {UNJUDGED:#x} drop"] if nic.firewall else []),
            *([_learn(nic)] if nic.dhcp else []),
            *(f"ether type {kind} accept" for kind in ("ip", "ip6", "arp")),
        ],
    }


def _own_ipv4(nic: NicSpec, host: str, sender: str, reason: str) -> list[str]:
    """Drop what comes from another address; while none has been learned, what none can be.

    What was learned is no more than an acknowledgement said, and anybody may have sent that.
    """
    passing = [f"{sender} {address} accept" for address in addresses.ipv4(nic)]
    if not nic.dhcp:
        return [*passing, rules.drop(reason)]
    outside = [f"{sender} != {nic.leased_from} {rules.drop(reason)}"] if nic.leased_from else []
    taken = [f"{sender} {address} {rules.drop(reason)}" for address in (nic.gateway, host)]
    foreign = f"iif @pinned {sender} != @{LEARNED} {rules.drop(reason)}"
    told = [f"update @{SPOKEN} {{ {sender} }}"] if reason == "arp" else []
    return [*passing, *outside, *taken, foreign, *told, "accept"]


def _probes(nic: NicSpec) -> list[str]:
    """RFC 5227: with no sender yet, for the address that the guest is about to take."""
    if nic.dhcp:
        return ["arp saddr ip 0.0.0.0 accept"]
    return [f"arp saddr ip 0.0.0.0 arp daddr ip {one} accept" for one in addresses.ipv4(nic)]


def _own_ipv6(nic: NicSpec) -> list[str]:
    own = [f"ip6 saddr {network} goto speaks_ipv6" for network in _ipv6(nic)]
    if nic.dhcp:
        made = f"ip6 saddr & ::ffff:ffff:ffff:ffff == {IPv6Address(_interface_id(nic.mac))}"
        own += [f"{made} update @{SPOKEN6} {{ ip6 saddr }}", f"{made} goto speaks_ipv6"]
    return own


def _claims(nic: NicSpec) -> list[str]:
    """The target of a message, 8 bytes into it, is the guest's."""
    own = [
        f"@th,64,{network.prefixlen} {rules.leading_bits(network)} accept" for network in _ipv6(nic)
    ]
    if nic.dhcp:
        own.append(f"@th,128,64 {_interface_id(nic.mac):#x} accept")
    return [*own, rules.drop("nd")]


def _learn(nic: NicSpec) -> str:
    """Learn from what a DHCP server acknowledges to this very guest."""
    client = f"{_CLIENT_MAC} 0x{nic.mac.replace(':', '')}"
    return (
        f"meta protocol ip udp sport 67 udp dport 68 {client} {_ACKNOWLEDGED}"
        f" update @{LEARNED} {{ {_YOUR_ADDRESS} }} update @pinned {{ oif }}"
    )


def _ipv6(nic: NicSpec) -> list[IPv6Network]:
    return [link_local(nic.mac), *addresses.ipv6(nic)]


def _interface_id(mac: str) -> int:
    """EUI-64 with the universal bit turned over; RFC 4291, appendix A."""
    first, *rest = bytes.fromhex(mac.replace(":", ""))
    return int.from_bytes(bytes([first ^ 2, *rest[:2], 0xFF, 0xFE, *rest[2:]]))


def link_local(mac: str) -> IPv6Network:
    """The address that every interface makes of its MAC, alone."""
    return IPv6Network((0xFE80 << 112) | _interface_id(mac))


def _set(name: str, kind: str, kept: str) -> str:
    return (
        f"set {name} {{ type {kind}; flags dynamic, timeout; size {_SET_SIZE}; timeout {kept}; }}"
    )
