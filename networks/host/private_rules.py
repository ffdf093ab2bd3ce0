"""Private networks → nftables text: what guests may send, and what keeps networks apart. Pure.

A private network is a switch of its own, so a guest may send frames of any protocol, under its
own MAC and its own IPv4 addresses, its alias IPs among them; of IPv6 it speaks its link-local
address, which is made of its MAC. A guest that a route of the network leads to also speaks for
what lies behind it, but never for another member. Tagged frames are refused: behind a tag an
address would pass unseen.

The host carries these frames and is no party to them. What leaves a network by its gateway is
routed in the gateway's namespace (`networks.host.gateway`), then by the host, which lets it out
into the world and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from networks.host import addresses, bridge_rules, plan, rules
from networks.host.addresses import Network
from networks.spec import NetworkSpec, NicSpec

TABLE = "cumulet_private"
# Between the host and the gateways' namespaces; never seen outside (RFC 3927).
LINKS = IPv4Network("169.254.0.0/16")
# Interfaces inside a gateway's namespace.
INSIDE, EXIT = "gateway", "exit"


@dataclass(frozen=True)
class Underlay:
    """What the host's rules are about.

    tunnel, tunnel_ip: WireGuard's interface and the host's address on it; address: the host's own
    on its uplink; protected: networks that no guest may call.
    """

    tunnel: str
    tunnel_ip: str
    address: str
    protected: tuple[Network, ...]


def nic_rules(tap: str, nic: NicSpec, network: NetworkSpec) -> str:
    """The table of one TAP, with its rules replaced. TAP and tunnel must exist."""
    chains = bridge_rules.ipv6_chains(nic)
    chains["says_ipv4"] = _ipv4(nic, network)
    chains["says_arp"] = _arp(nic, network)
    chains[rules.ENTRY] = [
        f'type filter hook ingress device "{tap}" priority filter; policy drop;',
        f"ether type {{ 8021q, 0x88a8 }} {rules.drop('protocol')}",
        f"ether saddr != {nic.mac} {rules.drop('mac')}",
        *rules.limit(nic.mbit_out),
        "meta protocol ip goto says_ipv4",
        "meta protocol ip6 goto says_ipv6",
        "meta protocol arp goto says_arp",
        "accept",
    ]
    return rules.table_text(tap, chains)


def _ipv4(nic: NicSpec, network: NetworkSpec) -> list[str]:
    return [
        *rules.no_dhcp_server(server=67, client=68),
        *(f"ip saddr {address} accept" for address in addresses.ipv4(nic)),
        "ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept",
        *_behind(nic, network, "ip saddr", "ipv4"),
        rules.drop("ipv4"),
    ]


def _behind(nic: NicSpec, network: NetworkSpec, sender: str, reason: str) -> list[str]:
    """What a guest that a route leads to says for others, none of which is a member."""
    behind = plan.forwarded_for(network, nic)
    if not behind:
        return []
    return [
        f"{sender} {network.ip_range} {rules.drop(reason)}",
        *(f"{sender} {destination} accept" for destination in behind),
    ]


def _arp(nic: NicSpec, network: NetworkSpec) -> list[str]:
    """An announcement (RFC 5227) asks nothing, and a bridge that answers for others keeps it."""
    own, tunnel = addresses.ipv4(nic), plan.names(network.network_id).tunnel
    return [
        f"arp saddr ether != {nic.mac} {rules.drop('arp')}",
        *(f'arp saddr ip {address} arp daddr ip {address} dup to "{tunnel}"' for address in own),
        *(f"arp saddr ip {address} accept" for address in own),
        "arp saddr ip 0.0.0.0 accept",
        *_behind(nic, network, "arp saddr ip", "arp"),
        rules.drop("arp"),
    ]


def host_rules(under: Underlay) -> str:
    """All rules of the host that keep networks apart, in place of those that were there."""
    return _replaced("bridge", _between_ports()) + _replaced("inet", _of_host(under))


def no_host_rules() -> str:
    return "".join(
        f"add table {family} {TABLE}\ndelete table {family} {TABLE}\n"
        for family in ("bridge", "inet")
    )


def gateway_rules() -> str:
    """Those inside a gateway's namespace: members reach each other, and the exit if there is one.

    Of what goes between subnets only one direction is seen here; it is let pass as it is.
    """
    return _replaced(
        "inet",
        {
            "to_gateway": [
                "type filter hook input priority filter; policy drop;",
                f'iifname "{INSIDE}" icmp type echo-request accept',
                f'iifname "{INSIDE}" udp sport 68 udp dport 67 accept',
                "ct state established,related accept",
            ],
            "through": [
                "type filter hook forward priority filter; policy drop;",
                f'iifname "{INSIDE}" oifname {{ "{INSIDE}", "{EXIT}" }} accept',
                f'iifname "{EXIT}" oifname "{INSIDE}" ct state established,related accept',
            ],
            "going_out": [
                "type nat hook postrouting priority srcnat; policy accept;",
                f'oifname "{EXIT}" masquerade',
            ],
        },
    )


def _between_ports() -> dict[str, list[str]]:
    """Asked for every frame, so in as few questions as there can be."""
    tunnels, gateways = f'"{plan.TUNNELS}*"', f'"{plan.GATEWAYS}*"'
    return {
        "into_tunnel": [
            f"iifname {gateways} meta protocol arp drop",
            "udp dport { 67, 68 } drop",
        ],
        "between": [
            "type filter hook forward priority filter; policy accept;",
            f"oifname {tunnels} goto into_tunnel",
            # Every host has a gateway of its own, which answers this host's members.
            f"oifname {gateways} iifname {tunnels} drop",
        ],
    }


def _of_host(under: Underlay) -> dict[str, list[str]]:
    tunnel = f'"{under.tunnel}"'
    bridges, exits = f'"{plan.BRIDGES}*"', f'"{plan.EXITS}*"'
    vxlan = f"udp dport {plan.VXLAN_PORT}"
    known = sorted({str(one) for one in under.protected if one.version == 4})
    return {
        "arriving": [
            "type filter hook prerouting priority raw; policy accept;",
            f"iifname {tunnel} {vxlan} notrack",
        ],
        "sent": [
            "type filter hook output priority raw; policy accept;",
            # Whatever becomes of the tunnel: no frame of a network leaves in the clear.
            f"{vxlan} oifname != {tunnel} drop",
            f"{vxlan} notrack",
        ],
        "to_host": [
            "type filter hook input priority filter; policy accept;",
            f"iifname {tunnel} {vxlan} accept",
            f"{vxlan} drop",
            f"iifname {bridges} drop",
            f'iifname != {{ {tunnel}, "lo" }} ip daddr {under.tunnel_ip} drop',
            f"iifname {tunnel} icmp type echo-request accept",
            f"iifname != {{ {tunnel}, {exits} }} accept",
            "ct state established,related accept",
            "drop",
        ],
        "from_networks": [
            "ct state established,related accept",
            f"oifname {{ {bridges}, {exits} }} drop",
            f"ip daddr {LINKS} drop",
            "meta l4proto { tcp, udp } th dport 53 accept",
            *([f"ip daddr {{ {', '.join(known)} }} drop"] if known else []),
        ],
        "through_host": [
            "type filter hook forward priority filter; policy accept;",
            f"iifname {tunnel} drop",
            f"oifname {tunnel} drop",
            f"iifname {bridges} oifname != {bridges} drop",
            f"iifname {exits} jump from_networks",
            f"iifname != {exits} oifname {exits} ct state established,related accept",
            f"oifname {exits} drop",
        ],
        "going_out": [
            "type nat hook postrouting priority srcnat; policy accept;",
            f"iifname {exits} ip saddr {LINKS} snat ip to {under.address}",
        ],
    }


def _replaced(family: str, chains: Mapping[str, Sequence[str]]) -> str:
    lines: list[str] = []
    for name, members in chains.items():
        lines += [f"chain {name} {{", *(f"    {rule}" for rule in members), "}"]
    body = "\n".join(f"    {line}" for line in lines)
    return (
        f"add table {family} {TABLE}\ndelete table {family} {TABLE}\n"
        f"table {family} {TABLE} {{\n{body}\n}}\n"
    )
