"""The TAP that root prepares once for a user's host: a shell script that makes it or takes it back.

A host in user mode plugs it into a switch and has public addresses that way. Root's part is the
way to it: the gateway's addresses, routes, who answers for them on the uplink, and a table of
nftables that holds the user to these addresses and away from the networks that the machine is in.
Nothing else of the machine's rules is touched. Every script may be run again. Pure;
`deploy.host_commands` finds the facts.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import ClassVar

from cloud.errors import CumuletError
from networks.spec import ROUTED_GATEWAY, ROUTED_GATEWAY6
from vms.spec import MOST_RANGES

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PREFIX = "cut-"
_NAME_BYTES = 15  # IFNAMSIZ - 1, linux/if.h
# Beyond so many addresses nobody answers one by one: the router upstream leads the pool here.
_MOST_SPOKEN_FOR = 256
_SUBNET6 = 64


class BadPool(CumuletError):
    """The pool of addresses cannot be led to a TAP."""

    code: ClassVar[str] = "bad_pool"


@dataclass(frozen=True)
class Tap:
    """`former`: pools that lead to it no longer. `protected`: the networks that the machine is in,
    which the user's guests must not call.
    """

    user: str
    uid: int
    pools: tuple[Network, ...]
    former: tuple[Network, ...]
    uplink: str
    protected: tuple[Network, ...]

    @property
    def name(self) -> str:
        return name_for(self.user, self.uid)

    @property
    def table(self) -> str:
        return f"cumulet_{self.name}"


@dataclass(frozen=True)
class Surroundings:
    """What a pool must not take from the machine: its addresses, its gateways, its networks.

    `uplink`: those networks of the uplink, of which a part may be for guests; `others`: all other.
    """

    addresses: tuple[Address, ...]
    gateways: tuple[Address, ...]
    uplink: tuple[Network, ...]
    others: tuple[Network, ...]


def name_for(user: str, uid: int) -> str:
    """The user's name where an interface can have it."""
    fits = re.fullmatch(r"[a-z_][a-z0-9_-]*", user) and len(PREFIX + user) <= _NAME_BYTES
    return PREFIX + (user if fits else str(uid))


def pools(texts: Sequence[str]) -> tuple[Network, ...]:
    """The networks that the user typed; raises BadPool."""
    found: list[Network] = []
    for text in texts:
        try:
            network = ip_network(text)
        except ValueError as error:
            raise BadPool(f"{error}: write a pool such as 198.51.100.0/24") from error
        if not network.prefixlen:
            raise BadPool(f"{text} is every address there is: name those routed to this machine")
        if network.version == 6 and network.prefixlen > _SUBNET6:
            raise BadPool(f"{text} is too small: IPv6 is lent in networks of /{_SUBNET6}")
        if network.is_loopback or network.is_multicast or network.is_link_local:
            raise BadPool(f"{text} leads nowhere: name addresses that are routed to this machine")
        if any(_overlap(network, one) for one in found):
            raise BadPool(f"{text} is part of another pool: name each address once")
        found.append(network)
    if len(found) > MOST_RANGES:
        raise BadPool(f"a TAP has at most {MOST_RANGES} pools: name larger ones")
    if not found:
        raise BadPool("no address leads to the TAP yet: name them, such as --pool 198.51.100.0/24")
    return tuple(found)


def check_surroundings(named: Sequence[Network], around: Surroundings) -> None:
    """Raises BadPool if the machine would lose its own way to something by one of the pools."""
    for pool in named:
        for what, taken in (("an address", around.addresses), ("a gateway", around.gateways)):
            if own := next((one for one in taken if one in pool), None):
                raise BadPool(
                    f"{pool} holds {own}, {what} of this machine: name only addresses that are"
                    " free for guests, such as a smaller part of the network"
                )
        met = [one for one in (*around.uplink, *around.others) if _overlap(pool, one)]
        nearest = max(met, key=lambda network: network.prefixlen, default=None)
        if nearest is None or (nearest in around.uplink and nearest.prefixlen < pool.prefixlen):
            continue
        raise BadPool(
            f"{pool} overlaps {nearest}, a network that this machine is in: name addresses that"
            " are routed to it, or a free part of its uplink's network"
        )


def preparation(tap: Tap) -> str:
    """The script that makes the TAP, for /bin/sh."""
    name = tap.name
    lines = [
        "#!/bin/sh",
        f"# Prepares the interface {name}, by which the host of {tap.user} has public addresses.",
        "# May be run again. To have it after a reboot, let the system run this file when its"
        " network is up.",
        "set -eu",
        f"ip link show dev {name} >/dev/null 2>&1 ||"
        f" ip tuntap add dev {name} mode tap user {shlex.quote(tap.user)}",
        *_addresses(tap),
        f"nft -f - <<'END'\n{rules(tap)}END",
        f"ip link set dev {name} up",
    ]
    for pool in tap.pools:
        lines.append(f"ip route replace {pool} dev {name}")
        spoken_for = _spoken_for(pool)
        if not spoken_for:
            lines.append(f"# {pool}: too large to answer for; its router has to lead it here.")
        lines += [f"ip neigh replace proxy {one} dev {tap.uplink}" for one in spoken_for]
    for pool in tap.former:
        lines.append(f"ip route del {pool} dev {name} 2>/dev/null || true")
    return "\n".join([*lines, *_silence(tap), *_sysctls(tap)]) + "\n"


def removal(tap: Tap) -> str:
    """The script that takes it back."""
    table = f"table inet {tap.table}"
    lines = [
        "#!/bin/sh",
        f"# Takes the interface {tap.name} of {tap.user} away, and all that leads to it. Whether"
        " this machine",
        "# forwards packets stays as it is: others may rely on it.",
        "set -eu",
        *_silence(tap),
        f"! ip link show dev {tap.name} >/dev/null 2>&1 || ip link delete dev {tap.name}",
        f"nft -f - <<'END'\n{table} {{ }}\ndelete {table}\nEND",
    ]
    return "\n".join(lines) + "\n"


def rules(tap: Tap) -> str:
    """nftables text: the table of this TAP in place of what was in it, in one transaction.

    As `networks.host.firewall` has it for guests of root's hosts. To accept here is not to accept
    in another table.
    """
    table = f"table inet {tap.table}"
    return f"""\
{table} {{ }}
delete {table}
{table} {{
    {_set("pools", 4, tap.pools)}
    {_set("pools6", 6, tap.pools)}
    {_set("protected", 4, tap.protected)}
    {_set("protected6", 6, tap.protected)}
    chain sources {{
        type filter hook prerouting priority raw; policy accept;
        iifname != "{tap.name}" accept
        ip saddr != @pools drop
        ip6 saddr fe80::/10 ip6 daddr {{ fe80::/10, ff02::/16 }} accept
        ip6 saddr :: icmpv6 type nd-neighbor-solicit accept
        ip6 saddr != @pools6 drop
    }}
    chain to_host {{
        type filter hook input priority filter; policy accept;
        iifname != "{tap.name}" accept
        ct state established,related accept
        ip daddr {ROUTED_GATEWAY} icmp type echo-request accept
        ip6 daddr {ROUTED_GATEWAY6} icmpv6 type echo-request accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
        drop
    }}
    chain through_host {{
        type filter hook forward priority filter; policy accept;
        iifname != "{tap.name}" accept
        ct state established,related accept
        meta l4proto {{ tcp, udp }} th dport 53 accept
        ip saddr != @protected ip daddr @protected drop
        ip6 saddr != @protected6 ip6 daddr @protected6 drop
    }}
}}
"""


def pool_commands(tap: Tap) -> list[str]:
    """How control learns of the pools; the location is the host's."""
    return [
        f"manage.py pool_add {tap.name}-{number} {pool} --location LOCATION"
        for number, pool in enumerate(tap.pools, start=1)
    ]


def _addresses(tap: Tap) -> list[str]:
    """The gateways; the machine introduces itself by no other address."""
    own, six = f"net.ipv6.conf.{tap.name}", _has(6, tap.pools)
    quiet = f"{own}.addr_gen_mode=1 {own}.accept_ra=0 {own}.disable_ipv6={'0' if six else '1'}"
    given = [f"sysctl -q -w {quiet}", f"ip address replace {ROUTED_GATEWAY}/32 dev {tap.name}"]
    if six:
        given.append(f"ip address replace {ROUTED_GATEWAY6}/64 dev {tap.name} nodad")
    return given


def _silence(tap: Tap) -> list[str]:
    """Answer no longer for what leads elsewhere now."""
    return [
        f"ip neigh del proxy {one} dev {tap.uplink} 2>/dev/null || true"
        for pool in tap.former
        for one in _spoken_for(pool)
    ]


def _sysctls(tap: Tap) -> list[str]:
    """Without a delay: the kernel thinks for up to 0.8 s before it answers for somebody else."""
    settings = [
        "net.ipv4.ip_forward=1",
        f"net.ipv4.conf.{tap.name}.send_redirects=0",
        f"net.ipv4.neigh.{tap.uplink}.proxy_delay=0",
    ]
    if not _has(6, tap.pools):
        return [f"sysctl -q -w {' '.join(settings)}"]
    uplink6 = f"/proc/sys/net/ipv6/conf/{tap.uplink}"
    settings += [
        "net.ipv6.conf.all.forwarding=1",
        f"net.ipv6.conf.{tap.uplink}.proxy_ndp=1",
        f"net.ipv6.neigh.{tap.uplink}.proxy_delay=0",
    ]
    return [
        "# A router listens to other routers only if told.",
        f'[ "$(cat {uplink6}/accept_ra)" != 1 ] || echo 2 >{uplink6}/accept_ra',
        f"sysctl -q -w {' '.join(settings)}",
    ]


def _spoken_for(pool: Network) -> list[str]:
    """The addresses that the machine answers for on its uplink: of IPv6, the first of each /64."""
    if pool.version == 4:
        return [str(one) for one in pool] if pool.num_addresses <= _MOST_SPOKEN_FOR else []
    if 2 ** (_SUBNET6 - pool.prefixlen) > _MOST_SPOKEN_FOR:
        return []
    return [str(subnet[1]) for subnet in pool.subnets(new_prefix=_SUBNET6)]


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _has(version: int, networks: Sequence[Network]) -> bool:
    return any(network.version == version for network in networks)


def _set(name: str, version: int, networks: Sequence[Network]) -> str:
    members = ", ".join(str(network) for network in networks if network.version == version)
    kind = "ipv4_addr" if version == 4 else "ipv6_addr"
    elements = f" elements = {{ {members} }};" if members else ""
    return f"set {name} {{ type {kind}; flags interval; auto-merge;{elements} }}"
