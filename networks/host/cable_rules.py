"""Members behind cables → nftables text: what may come in by a gateway's port for cables. Pure.

Their own hosts have no privilege to look at what a guest sends, so the gateway looks at all that
comes from them: under the MACs and addresses of members behind cables only, in ARP and neighbour
discovery too, and from no DHCP server or router. So a guest there can take another one's place
among those guests, all of one project, and nowhere else in the network. The pairs of what belongs
together are sets, as a frame is not to be asked about one member after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from networks.host import bridge_rules, plan, rules
from networks.spec import MemberSpec, NetworkSpec


def port_rules(spec: NetworkSpec, members: Sequence[MemberSpec]) -> str:
    """The table of the port, with its rules replaced. Port and tunnel must exist."""
    name = plan.names(spec.network_id)
    chains = {
        "says_ipv4": _ipv4(spec, members),
        "says_arp": _arp(spec, members, name.tunnel),
        "says_icmpv6": _icmpv6(members),
        "speaks_ipv6": rules.speaks_ipv6(),
        "says_ipv6": [
            *_passing("ether saddr . ip6 saddr", _local(members), "goto speaks_ipv6"),
            "ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, 143 } accept",
            rules.drop("ipv6"),
        ],
        "says": [
            "meta protocol ip goto says_ipv4",
            "meta protocol ip6 goto says_ipv6",
            "meta protocol arp goto says_arp",
            "accept",
        ],
        rules.ENTRY: [
            f'type filter hook ingress device "{name.cables}" priority filter; policy drop;',
            f"ether type {{ 8021q, 0x88a8 }} {rules.drop('protocol')}",
            *_passing("ether saddr", (one.mac for one in members), "goto says"),
            rules.drop("mac"),
        ],
    }
    return rules.table_text(name.cables, chains)


def _ipv4(spec: NetworkSpec, members: Sequence[MemberSpec]) -> list[str]:
    own = (f"{one.mac} . {address}" for one in members for address in one.addresses)
    return [
        *rules.no_dhcp_server(server=67, client=68),
        *_passing("ether saddr . ip saddr", own, "accept"),
        "ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept",
        *_behind(spec, members, "ip saddr", "ipv4"),
        rules.drop("ipv4"),
    ]


def _arp(spec: NetworkSpec, members: Sequence[MemberSpec], tunnel: str) -> list[str]:
    """Announcements are sent on, as of members that are on the host itself."""
    own = [(one.mac, address) for one in members for address in one.addresses]
    told = "ether saddr . arp saddr ether . arp saddr ip"
    honest = [f"{mac} . {mac} . {address}" for mac, address in own]
    return [
        *_passing(
            f"{told} . arp daddr ip",
            (f"{mac} . {mac} . {address} . {address}" for mac, address in own),
            f'dup to "{tunnel}"',
        ),
        *_passing(told, honest, "accept"),
        *_passing(told, (f"{one.mac} . {one.mac} . 0.0.0.0" for one in members), "accept"),
        *_behind(spec, members, "arp saddr ip", "arp"),
        rules.drop("arp"),
    ]


def _behind(
    spec: NetworkSpec, members: Sequence[MemberSpec], sender: str, reason: str
) -> list[str]:
    """What a member that a route leads to says for others, none of which is a member."""
    led = [
        f"ether saddr {one.mac} {sender} {route.destination} accept"
        for route in spec.routes
        for one in members
        if route.gateway in one.addresses
    ]
    return [f"{sender} {spec.ip_range} {rules.drop(reason)}", *led] if led else []


def _icmpv6(members: Sequence[MemberSpec]) -> list[str]:
    """As `rules.says_icmpv6`, where each member may claim its own address under its own MAC."""
    solicit, advert = "icmpv6 type nd-neighbor-solicit", "icmpv6 type nd-neighbor-advert"
    return [
        f"icmpv6 type nd-router-advert {rules.drop('ra')}",
        "icmpv6 type < nd-neighbor-solicit accept",
        "icmpv6 type > nd-redirect accept",
        f"ip6 nexthdr != ipv6-icmp {rules.drop('nd')}",
        f"{solicit} ip6 length 24 accept",
        *(
            f"ether saddr {one.mac} {solicit} ip6 length 32"
            f" @th,192,64 0x0101{one.mac.replace(':', '')} accept"
            for one in members
        ),
        *(
            f"ether saddr {one.mac} {advert} @th,64,128"
            f" {int(bridge_rules.link_local(one.mac).network_address):#x} {option} accept"
            for one in members
            for option in (
                "ip6 length 24",
                f"ip6 length 32 @th,192,64 0x0201{one.mac.replace(':', '')}",
            )
        ),
        rules.drop("nd"),
    ]


def _local(members: Iterable[MemberSpec]) -> Iterable[str]:
    return (f"{one.mac} . {bridge_rules.link_local(one.mac).network_address}" for one in members)


def _passing(fields: str, values: Iterable[str], verdict: str) -> list[str]:
    """A rule for whatever is one of the values; none without any, as no set is empty."""
    listed = ", ".join(values)
    return [f"{fields} {{ {listed} }} {verdict}"] if listed else []
