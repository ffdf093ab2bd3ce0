"""What passes between guests in the host's bridge and everybody else → nftables text. Pure.

The counterpart of `networks.host.firewall` for bridged guests, with the same two chains for each
NIC, in a table that lives as long as the bridge. Frames that only pass through the bridge come by
here, connection tracking included, because the bridge hands them to the IP hooks (br_netfilter).
There a port has no name of its own, so a frame finds its NIC's chains by the MAC; what the host
itself routes into the bridge has none yet and finds them by the address. If that leads to none, as
with an address that outside DHCP gave, the packet gets a mark with which it comes to no guest that
has a firewall (`networks.host.bridge_rules`).

Broadcasts and multicasts reach every guest, as on every network of this kind; but a packet for
one guest that comes disguised as such is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from networks.host import addresses, firewall
from networks.host.addresses import Network
from networks.host.bridge_plan import BRIDGE
from networks.host.firewall import TAP_PATTERN, arriving, leaving
from networks.spec import NicSpec

HOST_TABLE = "cumulet_bridge"
# "cubr": on frames from bridged guests, which come to the host through the bridge like any other.
MARK: Final = 0x63756272
# "cuuj": on what the host routes into the bridge, and no firewall has judged.
UNJUDGED: Final = 0x6375756A
# The maps by which packets find the chains of a NIC, and their keys. IPv6 networks are /64.
_MAPS = {
    "leaving": "ether_addr",
    "arriving": "ether_addr",
    "arriving4": "ipv4_addr",
    "arriving6": "ipv6_addr",
}
# Networks that guests may not call: a set of each family.
_PROTECTED = (("protected", "ipv4_addr", 4), ("protected6", "ipv6_addr", 6))
# What a chain lets pass that was found by the address is done with `by_address`.
_LEADS = {"leaving": "jump", "arriving": "jump", "arriving4": "goto", "arriving6": "goto"}
# What makes a network of neighbours is nobody's connection. A guest is kept from speaking for
# others, or as a router, by networks.host.bridge_rules.
_DISCOVERY = "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert"
_CHAINS = ("by_address", "not_passed_on", "abroad", "into_bridge", "to_host", "through_host")

# By map, the keys of a NIC with the chain that each leads to.
Leads = Mapping[str, Mapping[str, str]]


def host_rules(mac: str, protected: Iterable[Network] = ()) -> str:
    """The host's own rules: bridged guests reach the host itself no more than routed ones do.

    They are neighbours in its network all the same: ND and DHCP are answered, and answers pass.
    `mac`: the host's own. What a guest sends there for others is not passed on, but to guests.
    `protected`: networks that guests may not call, apart from DNS, whose own address is in none of
    them: the way there is by the router outside, which may well pass it on to hosts and control.
    """
    known = list(protected)
    sets = "".join(_set(name, kind) for name, kind, _ in _PROTECTED)
    filled = "".join(
        _filled(name, [one for one in known if one.version == version])
        for name, _, version in _PROTECTED
    )
    maps = "".join(
        f"    map {name} {{\n        type {kind} : verdict\n    }}\n"
        for name, kind in _MAPS.items()
    )
    emptied = "".join(f"flush chain inet {HOST_TABLE} {name}\n" for name in _CHAINS)
    return f"""{_declared(sets + maps)}{emptied}{filled}table inet {HOST_TABLE} {{
    chain to_host {{
        meta mark != {MARK:#x} accept
        ct state established,related accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
        udp sport 68 udp dport 67 accept
        drop
    }}
    chain by_address {{
        ip daddr vmap @arriving4
        ip6 daddr & ffff:ffff:ffff:ffff:: vmap @arriving6
        ct direction reply return
        ct state related return
        meta mark set {UNJUDGED:#x}
    }}
    chain not_passed_on {{
        ct state established,related return
        drop
    }}
    chain abroad {{
        ct state established,related return
        meta l4proto {{ tcp, udp }} th dport 53 return
        ip saddr != @protected ip daddr @protected drop
        ip6 saddr != @protected6 ip6 daddr @protected6 drop
    }}
    chain into_bridge {{
        iifname != "{BRIDGE}" goto by_address
        ether daddr {mac} goto by_address
        meta pkttype {{ broadcast, multicast }} fib daddr type unicast drop
        ether daddr vmap @arriving
    }}
    chain through_host {{
        iifname "{BRIDGE}" icmpv6 type {{ {_DISCOVERY} }} accept
        meta mark {MARK:#x} jump abroad
        iifname "{BRIDGE}" ether saddr vmap @leaving
        meta mark {MARK:#x} ether daddr {mac} oifname != "{TAP_PATTERN}" jump not_passed_on
        oifname "{BRIDGE}" jump into_bridge
    }}
}}
"""


def no_host_rules() -> str:
    """Take the table away, whether or not it is there."""
    return f"add table inet {HOST_TABLE}\ndelete table inet {HOST_TABLE}\n"


def nic_rules(nics: Mapping[str, NicSpec], known: Leads) -> str:
    """The chains of these TAPs in place of what was in them; `host_rules` come before it.

    `known`: what leads to them by now.
    """
    if not nics:
        return ""
    firewalls = {tap: nic.firewall for tap, nic in nics.items()}
    leasing = [tap for tap, nic in nics.items() if nic.dhcp]
    return (
        _verbs("delete", known)
        + firewall.nic_chains(HOST_TABLE, firewalls, leasing)
        + _verbs("add", leads(nics))
    )


def no_nic_rules(taps: Iterable[str], known: Leads) -> str:
    """Take away the chains of these TAPs, which must be there, and what leads to them."""
    return _verbs("delete", known) + firewall.no_nic_chains(HOST_TABLE, taps)


def leads(nics: Mapping[str, NicSpec]) -> dict[str, dict[str, str]]:
    """What has to lead to the chains of these NICs."""
    found: dict[str, dict[str, str]] = {name: {} for name in _MAPS}
    for tap, nic in nics.items():
        found["leaving"][nic.mac] = leaving(tap)
        found["arriving"][nic.mac] = arriving(tap)
        found["arriving4"].update({str(one): arriving(tap) for one in addresses.ipv4(nic)})
        found["arriving6"].update(
            {str(one.network_address): arriving(tap) for one in addresses.ipv6(nic)}
        )
    return found


def _set(name: str, kind: str) -> str:
    return f"    set {name} {{\n        type {kind}\n        flags interval\n    }}\n"


def _filled(name: str, networks: Iterable[Network]) -> str:
    """The set with these in place of what was in it."""
    members = ", ".join(sorted(map(str, networks)))
    text = f"flush set inet {HOST_TABLE} {name}\n"
    if members:
        text += f"add element inet {HOST_TABLE} {name} {{ {members} }}\n"
    return text


def _declared(maps: str) -> str:
    return f"""table inet {HOST_TABLE} {{
{maps}    chain by_address {{
    }}
    chain not_passed_on {{
    }}
    chain abroad {{
    }}
    chain into_bridge {{
    }}
    chain to_host {{
        type filter hook input priority filter; policy accept;
    }}
    chain through_host {{
        type filter hook forward priority filter; policy accept;
    }}
}}
"""


def _verbs(verb: str, led: Leads) -> str:
    text = ""
    for name, chains in led.items():
        members = ", ".join(f"{key} : {_LEADS[name]} {chain}" for key, chain in chains.items())
        if members:
            text += f"{verb} element inet {HOST_TABLE} {name} {{ {members} }}\n"
    return text
