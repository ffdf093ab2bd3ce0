"""NicSpec → nftables text: what a guest may send. Pure; applied by `networks.host.nft`.

Two layers. Each TAP has a table of its own that sees every frame its guest sends before anything
else does (netdev ingress): the guest speaks under its own MAC and IPv4 address only, ARP
included; IPv6 and everything that is not IP is dropped. One table of the host keeps guests away
from the host itself and from the networks it lives on; it is stateful, so that answers pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network

from networks.spec import ROUTED_GATEWAY, NicSpec

HOST_TABLE = "cumulet"
TAP_PATTERN = "cu*"
_DHCP_SERVER = 67


def nic_table(tap: str) -> str:
    """The name of a TAP's table, in the family netdev."""
    return f"cumulet_{tap}"


def nic_rules(tap: str, nic: NicSpec) -> str:
    """The table of one TAP, replacing an older one. The TAP must exist."""
    return (
        _drop("netdev", nic_table(tap))
        + f"""
table netdev {nic_table(tap)} {{
    chain from_guest {{
        type filter hook ingress device "{tap}" priority filter; policy drop;
        ether saddr != {nic.mac} drop
        arp saddr ether {nic.mac} arp saddr ip {nic.ipv4} accept
        ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
        ip saddr != {nic.ipv4} drop
        udp sport {_DHCP_SERVER} drop
        meta protocol ip accept
    }}
}}
"""
    )


def no_nic_rules(tap: str) -> str:
    """Take the TAP's table away, whether or not it is there."""
    return _drop("netdev", nic_table(tap))


def host_rules(protected: Iterable[IPv4Network]) -> str:
    """The host's table. `protected`: networks that guests may not call, apart from DNS.

    A guest whose own address lies in a protected network is a neighbour there, and may.
    """
    elements = ", ".join(str(network) for network in sorted(protected))
    members = f"elements = {{ {elements} }}" if elements else ""
    return (
        _drop("inet", HOST_TABLE)
        + f"""
table inet {HOST_TABLE} {{
    set protected {{
        type ipv4_addr
        flags interval
        auto-merge
        {members}
    }}
    chain to_host {{
        type filter hook input priority filter; policy accept;
        iifname != "{TAP_PATTERN}" accept
        ct state established,related accept
        ip daddr {ROUTED_GATEWAY} icmp type echo-request accept
        udp sport 68 udp dport 67 accept
        drop
    }}
    chain through_host {{
        type filter hook forward priority filter; policy accept;
        iifname != "{TAP_PATTERN}" accept
        ct state established,related accept
        meta l4proto {{ tcp, udp }} th dport 53 accept
        ip saddr != @protected ip daddr @protected drop
    }}
}}
"""
    )


def _drop(family: str, table: str) -> str:
    """Both lines in one transaction never fail, and leave no moment without rules."""
    return f"add table {family} {table}\ndelete table {family} {table}\n"
