"""A network's bridge on this host, and its tunnel to the others: by netlink, safe to repeat.

The bridge has no address: the host is no party to the network, it only carries it. Frames inside
go between ports, never through the host's own rules. `networks.host.plan` says what must be
there; what is there is read from the kernel each time, and only the difference is written.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cloud import shell
from networks.host import links, plan
from networks.host.links import index_of, unless
from networks.host.plan import EVERYBODY, Change, Forwarding, Names

_SELF, _MASTER = 0x02, 0x04  # NTF_*, linux/neighbour.h
_NOARP, _PERMANENT = 0x40, 0x80  # NUD_*
# Answer for no address of the host's; Documentation/networking/ip-sysctl.rst.
_DEAF = "8"
_UP = 1  # IFF_UP
_GATHER_NANOSECONDS = 50_000
_SECONDS = 5.0


@dataclass(frozen=True)
class Tunnel:
    """What makes the VXLAN device; with another one it is made anew. `mtu` in bytes."""

    vni: int
    address: str
    mtu: int


def ensure(netlink: Any, name: Names, tunnel: Tunnel, host: str) -> None:
    """The bridge and the tunnel in it, both up and without any entry of their own."""
    # Whoever switches this on has the frames of all networks meet in the host's own rules.
    for family in ("iptables", "ip6tables", "arptables"):
        links.set_sysctl(f"bridge/bridge-nf-call-{family}", "0")
    if index_of(netlink, name.bridge) is None:
        made = {"br_stp_state": 0, "br_forward_delay": 0, "br_mcast_snooping": 0}
        unless(errno.EEXIST, netlink.link, "add", ifname=name.bridge, kind="bridge", **made)
        links.silence(name.bridge)
        links.set_sysctl(f"ipv4/conf/{name.bridge}/arp_ignore", _DEAF)
        links.sign(netlink, name.bridge, host, "")
    bridge = index_of(netlink, name.bridge)
    seen = _tunnel(netlink, name.tunnel)
    if seen and (seen.vni, seen.address) != (tunnel.vni, tunnel.address):
        netlink.link("del", index=index_of(netlink, name.tunnel))
        seen = None
    if seen is None:
        device: dict[str, object] = {
            "vxlan_id": tunnel.vni,
            "vxlan_local": tunnel.address,
            "vxlan_port": plan.VXLAN_PORT,
            "vxlan_learning": False,
            # What is inside has checksums, and WireGuard authenticates the whole.
            "vxlan_udp_csum": False,
        }
        netlink.link("add", ifname=name.tunnel, kind="vxlan", **device)
        links.silence(name.tunnel)
        _gather(name.tunnel)
        links.sign(netlink, name.tunnel, host, "")
    ensure_port(netlink, name.tunnel, bridge, tunnel.mtu, neigh_suppress=1)
    # After its ports: a bridge that is given its MTU first follows the smallest of them.
    netlink.link("set", index=bridge, mtu=tunnel.mtu, state="up")


def _gather(tunnel: str) -> None:
    """Have segments of one connection that arrive in a row go on as one, and be answered as one.

    WireGuard hands over packet by packet, so without waiting a moment nothing would ever be
    gathered; what a sender pushes does not wait. It is a gain in speed only, so a kernel that
    refuses is let be. A file system of its own, because /sys shows the namespace that it was
    mounted in.
    """
    there = f"/sys/class/net/{tunnel}/gro_flush_timeout"
    script = 'mount -t sysfs none /sys && echo "$1" >"$2"'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", str(_GATHER_NANOSECONDS), there]
    with suppress(shell.CommandFailed):
        shell.run(argv, timeout=_SECONDS)


def is_complete(netlink: Any, name: Names, tunnel: Tunnel) -> bool:
    bridge = index_of(netlink, name.bridge)
    seen = _tunnel(netlink, name.tunnel)
    return bridge is not None and seen == tunnel and is_port(netlink, name.tunnel, bridge)


def ensure_port(netlink: Any, port: str, bridge: int | None, mtu: int, **flags: int) -> None:
    """Put an interface into the bridge, which learns nothing from it."""
    index = index_of(netlink, port)
    netlink.link("set", index=index, master=bridge, mtu=mtu, state="up")
    netlink.brport("set", index=index, learning=0, **flags)


def is_port(netlink: Any, port: str, bridge: int) -> bool:
    index = index_of(netlink, port)
    if index is None:
        return False
    (link,) = netlink.link("get", index=index)
    return bool(link.get_attr("IFLA_MASTER") == bridge and link["flags"] & _UP)


def forward(netlink: Any, name: Names, wanted: Forwarding) -> int:
    """Write the difference between `wanted` and what is there; answers how many entries it was.

    A port that is not there yet is left out: who makes it enters its MAC.
    """
    ports = _ports(netlink, name)
    there = frozenset(entry for entry in wanted.ports if entry[1] in ports)
    wanted = Forwarding(wanted.tunnels, there, wanted.neighbours)
    todo = plan.changes(wanted, _seen(netlink, name, ports))
    for change in todo:
        _make(netlink, name, change)
    return len(todo)


def enter(netlink: Any, port: str, mac: str) -> None:
    """Have frames for this MAC go to this port of a bridge."""
    index = index_of(netlink, port)
    netlink.fdb("replace", ifindex=index, lladdr=mac, flags=_MASTER, state=_NOARP)


def knows(netlink: Any, name: Names, port: str, mac: str) -> bool:
    return (mac, port) in _seen(netlink, name, {port}).ports


def remove(netlink: Any, name: Names) -> None:
    """Nothing of the network stays but TAPs, which end with their VM's NICs."""
    for interface in (name.tunnel, name.bridge):
        links.remove_tap(netlink, interface)


def neighbours(netlink: Any, interface: str) -> frozenset[tuple[str, str]]:
    """Address and MAC of all that was entered for an interface."""
    return frozenset(
        (str(entry.get_attr("NDA_DST")), str(entry.get_attr("NDA_LLADDR")))
        for entry in netlink.get_neighbours(ifindex=index_of(netlink, interface))
        if entry["state"] == _PERMANENT and entry.get_attr("NDA_LLADDR") != EVERYBODY
    )


def set_neighbour(netlink: Any, interface: str, change: Change) -> None:
    index = index_of(netlink, interface)
    if change.verb == "add":
        entry = {"dst": change.key, "lladdr": change.value, "state": _PERMANENT}
        netlink.neigh("replace", ifindex=index, **entry)
    else:
        unless(errno.ENOENT, netlink.neigh, "del", dst=change.key, ifindex=index)


def _ports(netlink: Any, name: Names) -> set[str]:
    found = netlink.get_links(master=index_of(netlink, name.bridge))
    return {str(port.get_attr("IFLA_IFNAME")) for port in found}


def _tunnel(netlink: Any, name: str) -> Tunnel | None:
    index = index_of(netlink, name)
    if index is None:
        return None
    (link,) = netlink.link("get", index=index)
    made = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
    address = str(made.get_attr("IFLA_VXLAN_LOCAL"))
    return Tunnel(made.get_attr("IFLA_VXLAN_ID"), address, link.get_attr("IFLA_MTU"))


def sorted_out(
    written: Iterable[Any],
    ports: Mapping[int, str],
    tunnel: int | None,
    neighbours: frozenset[tuple[str, str]],
) -> Forwarding:
    """What of all the kernel's entries was written for one network, whose `ports` these are.

    The kernel's own entries, for the ports themselves, are another kind.
    """
    tunnels, placed = set(), set()
    for entry in written:
        mac = str(entry.get_attr("NDA_LLADDR"))
        if entry.get_attr("NDA_MASTER"):
            if entry["ifindex"] in ports and entry["state"] == _NOARP:
                placed.add((mac, ports[entry["ifindex"]]))
        elif entry["ifindex"] == tunnel and entry.get_attr("NDA_DST"):
            tunnels.add((mac, str(entry.get_attr("NDA_DST"))))
    return Forwarding(frozenset(tunnels), frozenset(placed), neighbours)


def _seen(netlink: Any, name: Names, ports: set[str]) -> Forwarding:
    indices = {index: port for port in ports if (index := index_of(netlink, port)) is not None}
    tunnel = index_of(netlink, name.tunnel)
    return sorted_out(netlink.fdb("dump"), indices, tunnel, neighbours(netlink, name.bridge))


def _make(netlink: Any, name: Names, change: Change) -> None:
    makers: dict[str, Callable[[Any, Names, Change], None]] = {
        "tunnels": _set_tunnel,
        "ports": _set_port,
        "neighbours": lambda netlink, name, change: set_neighbour(netlink, name.bridge, change),
    }
    makers[change.table](netlink, name, change)


def _set_tunnel(netlink: Any, name: Names, change: Change) -> None:
    entry = {"ifindex": index_of(netlink, name.tunnel), "lladdr": change.key}
    entry |= {"dst": change.value, "flags": _SELF}
    if change.verb == "remove":
        unless(errno.ENOENT, netlink.fdb, "del", **entry)
    else:
        verb = "append" if change.key == EVERYBODY else "replace"
        netlink.fdb(verb, state=_NOARP | _PERMANENT, **entry)


def _set_port(netlink: Any, name: Names, change: Change) -> None:
    if change.verb == "add":
        enter(netlink, change.value, change.key)
    else:
        index = index_of(netlink, change.value)
        unless(errno.ENOENT, netlink.fdb, "del", ifindex=index, lladdr=change.key, flags=_MASTER)
