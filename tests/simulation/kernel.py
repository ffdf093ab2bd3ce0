"""The network of one machine's kernel: what is left when its programs are killed.

Nothing of it survives a reboot. Namespaces are known by the pid of their keeper, 0 is the
machine's own. Sysctls are not played.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from pyroute2 import NetlinkError

UPLINK = "uplink"
UP = 1  # IFF_UP
_KERNEL, _BOOT = 2, 3  # RTPROT_*


def refuse(code: int, what: str) -> NetlinkError:
    return NetlinkError(code, what)


@dataclass
class Link:
    index: int
    name: str
    kind: str
    namespace: int
    facts: dict[str, Any] = field(default_factory=dict)
    master: int | None = None
    up: bool = False
    alias: str | None = None
    mtu: int = 1500
    mac: str = ""
    peer: int | None = None


@dataclass(frozen=True)
class Entry:
    """An address of an interface."""

    index: int
    address: str
    length: int


@dataclass
class Way:
    """A route; `dst` as text."""

    dst: str
    oif: int | None
    proto: int
    gateway: str | None = None


@dataclass
class Table:
    """Of nftables. `chains`: how many rules each has; `elements`: by map, key and the chain that it
    leads to.
    """

    chains: dict[str, int] = field(default_factory=dict)
    elements: dict[str, dict[str, str]] = field(default_factory=dict)


class Kernel:
    def __init__(self, address: str) -> None:
        self.address = address
        self.ends: list[int] = []
        self.namespace = 0
        self.reset()

    def reset(self) -> None:
        """The machine starts anew."""
        self._index = 1
        self.links: dict[int, Link] = {}
        self.addresses: set[Entry] = set()
        self.ways: dict[tuple[int, str], Way] = {}
        self.proxies: set[tuple[int, str]] = set()
        # Neighbours by interface and address, forwarding entries by interface.
        self.neighbours: dict[tuple[int, str], str] = {}
        self.fdb: set[tuple[int, str, str | None, bool]] = set()
        self.limits: set[int] = set()
        self.tables: dict[tuple[int, str, str], Table] = {}
        self.tunnels: dict[str, str] = {}
        uplink = self.add(UPLINK, "ether", 0)
        uplink.up, uplink.mac = True, "02:00:00:00:00:01"
        self.addresses.add(Entry(uplink.index, self.address, 24))
        self.ways[0, "0.0.0.0/0"] = Way("0.0.0.0/0", uplink.index, _BOOT, "192.0.2.254")

    def add(self, name: str, kind: str, namespace: int, **facts: Any) -> Link:
        if self.named(name, namespace) is not None:
            raise refuse(errno.EEXIST, name)
        self._index += 1
        link = Link(self._index, name, kind, namespace, facts)
        self.links[link.index] = link
        return link

    def named(self, name: str, namespace: int) -> Link | None:
        for link in self.links.values():
            if link.name == name and link.namespace == namespace:
                return link
        return None

    def link(self, index: int | None) -> Link:
        if index not in self.links:
            raise refuse(errno.ENODEV, f"no interface {index}")
        return self.links[index]

    def remove(self, index: int | None) -> None:
        """The interface goes, with all that is tied to it."""
        gone = self.links.pop(self.link(index).index)
        self.addresses = {one for one in self.addresses if one.index != index}
        self.ways = {key: way for key, way in self.ways.items() if way.oif != index}
        self.proxies = {one for one in self.proxies if one[0] != index}
        self.neighbours = {k: v for k, v in self.neighbours.items() if k[0] != index}
        self.fdb = {one for one in self.fdb if one[0] != index}
        self.limits.discard(gone.index)
        for link in self.links.values():
            if link.master == index:
                link.master = None
        # The hook of a table for one device goes with the device; what else it holds stays.
        table = self.tables.get((0, "netdev", f"cumulet_{gone.name}"))
        if table is not None:
            table.chains.pop("from_guest", None)
        if gone.peer in self.links:
            self.remove(gone.peer)

    def end_namespace(self, keeper: int) -> None:
        for link in [one for one in self.links.values() if one.namespace == keeper]:
            if link.index in self.links:
                self.remove(link.index)
        self.tables = {key: table for key, table in self.tables.items() if key[0] != keeper}
        self.ways = {key: way for key, way in self.ways.items() if key[0] != keeper}

    def way_to(self, address: str) -> Way:
        """The most special route; raises NetlinkError."""
        wanted = ip_address(address)
        found = [
            way
            for (namespace, dst), way in self.ways.items()
            if namespace == self.namespace
            and ip_network(dst).version == wanted.version
            and wanted in ip_network(dst)
        ]
        if not found:
            raise refuse(errno.ENETUNREACH, address)
        return max(found, key=lambda way: ip_network(way.dst).prefixlen)
