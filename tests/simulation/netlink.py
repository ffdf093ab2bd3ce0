"""`pyroute2.IPRoute` as the host's code uses it, over a `Kernel`. Every change is an effect."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from tests.simulation import actors
from tests.simulation.actors import Effects
from tests.simulation.kernel import UP, Entry, Kernel, Link, Way, refuse

_PROXY = 0x08  # NTF_PROXY
_MASTER, _SELF = 0x04, 0x02
_NOARP, _PERMANENT = 0x40, 0x80
_OURS = 28


class Message(dict[str, Any]):
    """What the kernel answers; attributes by name."""

    def __init__(self, attributes: dict[str, Any], **header: Any) -> None:
        super().__init__(header)
        self._attributes = attributes

    def get_attr(self, name: str) -> Any:
        return self._attributes.get(name)

    def get_nested(self, *names: str) -> Any:
        found: Any = self._attributes
        for name in names:
            if not isinstance(found, dict):
                return None
            found = found.get(name)
        return Message(found) if isinstance(found, dict) else found


class Netlink:
    """A socket in the namespace that its thread is in."""

    effects: Effects

    def __init__(self) -> None:
        self._kernel: Kernel = actors.machine().kernel
        self._namespace = self._kernel.namespace

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def link_lookup(self, ifname: str) -> list[int]:
        link = self._kernel.named(ifname, self._namespace)
        return [link.index] if link else []

    def get_links(self, master: int | None = None) -> list[Message]:
        return [
            _link(one)
            for one in self._links()
            if master is None or (one.master is not None and one.master == master)
        ]

    def link(self, verb: str, **facts: Any) -> Any:
        match verb:
            case "get":
                return (_link(self._kernel.link(facts["index"])),)
            case "dump":
                return [_link(one) for one in self._links() if one.kind == facts["kind"]]
        return self.effects.do(f"link {verb} {_shown(facts)}", self._change_link, verb, facts)

    def get_addr(self, index: int | None = None, family: int | None = None) -> list[Message]:
        return [
            Message(
                {"IFA_ADDRESS": one.address, "IFA_LOCAL": one.address},
                index=one.index,
                prefixlen=one.length,
                family=_family(one.address),
            )
            for one in sorted(self._kernel.addresses, key=lambda one: (one.index, one.address))
            if index in (None, one.index)
            and family in (None, _family(one.address))
            and self._kernel.links[one.index].namespace == self._namespace
        ]

    def addr(self, verb: str, index: int, address: str, prefixlen: int, **_: Any) -> None:
        self.effects.do(
            f"address {verb} {address}",
            self._change_address,
            verb,
            Entry(index, address, prefixlen),
        )

    def get_default_routes(self, family: int) -> list[Message]:
        return [one for one in self.get_routes(family=family) if one["dst_len"] == 0]

    def get_routes(
        self, oif: int | None = None, table: int | None = None, family: int | None = None
    ) -> list[Message]:
        return [
            _way(way)
            for (namespace, dst), way in sorted(self._kernel.ways.items())
            if namespace == self._namespace
            and oif in (None, way.oif)
            and family in (None, _family(dst.partition("/")[0]))
        ]

    def route(self, verb: str, **facts: Any) -> Any:
        if verb == "get":
            return (_way(self._kernel.way_to(facts["dst"])),)
        return self.effects.do(f"route {verb} {facts['dst']}", self._change_route, verb, facts)

    def neigh(self, verb: str, **facts: Any) -> Any:
        proxied = facts.get("flags") == _PROXY
        if verb == "dump":
            return [
                Message({"NDA_DST": address, "NDA_PROTOCOL": _OURS}, ifindex=index)
                for index, address in sorted(self._kernel.proxies)
                if _family(address) == facts["family"]
            ]
        if verb == "get":
            if (facts["ifindex"], facts["dst"]) not in self._kernel.proxies:
                raise refuse(errno.ENOENT, facts["dst"])
            return ()
        change = self._change_proxy if proxied else self._change_neighbour
        what = "proxy" if proxied else "neighbour"
        return self.effects.do(f"{what} {verb} {facts['dst']}", change, verb, facts)

    def get_neighbours(self, ifindex: int | None) -> list[Message]:
        return [
            Message({"NDA_DST": address, "NDA_LLADDR": mac}, ifindex=index, state=_PERMANENT)
            for (index, address), mac in sorted(self._kernel.neighbours.items())
            if index == ifindex
        ]

    def fdb(self, verb: str, **facts: Any) -> Any:
        if verb == "dump":
            return [_forwarding(self._kernel, *one) for one in sorted(self._kernel.fdb, key=str)]
        return self.effects.do(f"fdb {verb} {facts['lladdr']}", self._change_fdb, verb, facts)

    def brport(self, verb: str, **facts: Any) -> None:
        self._kernel.link(facts["index"])
        self.effects.do("bridge port", lambda: None)

    def get_qdiscs(self, index: int) -> list[Message]:
        return [Message({"TCA_KIND": "tbf"})] if index in self._kernel.limits else []

    def tc(self, verb: str, *words: Any, **facts: Any) -> None:
        index = facts.get("index", words[1] if len(words) > 1 else None)
        assert index is not None
        keep = self._kernel.limits.add if verb == "replace" else self._kernel.limits.discard
        self.effects.do(f"limit {verb}", keep, index)

    def _links(self) -> Iterator[Link]:
        return (one for one in self._kernel.links.values() if one.namespace == self._namespace)

    def _change_link(self, verb: str, facts: dict[str, Any]) -> None:
        kernel = self._kernel
        if verb == "del":
            kernel.remove(facts["index"])
            return
        if verb == "add":
            self._add_link(dict(facts))
            return
        link = kernel.link(facts["index"])
        link.master = facts["master"] or None if "master" in facts else link.master
        link.up = facts["state"] == "up" if "state" in facts else link.up
        link.alias = facts.get("ifalias", link.alias)
        link.mtu = facts.get("mtu", link.mtu)
        link.mac = facts.get("address", link.mac)

    def _add_link(self, facts: dict[str, Any]) -> None:
        name, kind = facts.pop("ifname"), facts.pop("kind")
        peer = facts.pop("peer", None)
        kind = "tun" if kind == "tuntap" else kind
        link = self._kernel.add(name, kind, self._namespace, **facts)
        if peer is not None:
            namespace = peer.get("net_ns_pid", self._namespace)
            other = self._kernel.add(peer["ifname"], kind, namespace)
            other.mac = peer.get("address", "")
            link.peer, other.peer = other.index, link.index

    def _change_address(self, verb: str, entry: Entry) -> None:
        self._kernel.link(entry.index)
        there = entry in self._kernel.addresses
        if verb == "add" and there:
            raise refuse(errno.EEXIST, entry.address)
        if verb == "del" and not there:
            raise refuse(errno.EADDRNOTAVAIL, entry.address)
        (self._kernel.addresses.add if verb == "add" else self._kernel.addresses.discard)(entry)

    def _change_route(self, verb: str, facts: dict[str, Any]) -> None:
        key = self._namespace, str(ip_network(facts["dst"]))
        if verb == "replace":
            self._kernel.link(facts["oif"])
            self._kernel.ways[key] = Way(key[1], facts["oif"], facts["proto"], facts.get("gateway"))
            return
        known = self._kernel.ways.get(key)
        if known is None or facts.get("oif") not in (None, known.oif):
            raise refuse(errno.ESRCH, facts["dst"])
        del self._kernel.ways[key]

    def _change_proxy(self, verb: str, facts: dict[str, Any]) -> None:
        entry = facts["ifindex"], facts["dst"]
        if verb == "replace":
            self._kernel.proxies.add(entry)
        elif entry in self._kernel.proxies:
            self._kernel.proxies.discard(entry)
        else:
            raise refuse(errno.ENOENT, facts["dst"])

    def _change_neighbour(self, verb: str, facts: dict[str, Any]) -> None:
        key = facts["ifindex"], facts["dst"]
        if verb == "replace":
            self._kernel.link(facts["ifindex"])
            self._kernel.neighbours[key] = facts["lladdr"]
        elif self._kernel.neighbours.pop(key, None) is None:
            raise refuse(errno.ENOENT, facts["dst"])

    def _change_fdb(self, verb: str, facts: dict[str, Any]) -> None:
        kernel, index, mac = self._kernel, facts["ifindex"], facts["lladdr"]
        kernel.link(index)
        placed = facts["flags"] == _MASTER
        target = facts.get("dst")
        if verb == "del":
            gone = {
                one
                for one in kernel.fdb
                if one[:2] == (index, mac) and one[3] == placed and target in (None, one[2])
            }
            if not gone:
                raise refuse(errno.ENOENT, mac)
            kernel.fdb -= gone
            return
        if verb == "replace":
            master = kernel.link(index).master
            rivals = {
                one
                for one in kernel.fdb
                if one[1] == mac
                and one[3] == placed
                and (kernel.link(one[0]).master == master if placed else one[0] == index)
            }
            kernel.fdb -= rivals
        kernel.fdb.add((index, mac, target, placed))


def _link(link: Link) -> Message:
    data: dict[str, Any] = {}
    if link.kind == "vxlan":
        data = {
            "IFLA_VXLAN_LOCAL": link.facts["vxlan_local"],
            "IFLA_VXLAN_ID": link.facts["vxlan_id"],
        }
    if link.kind == "tun":
        data = {"IFLA_TUN_OWNER": link.facts.get("uid")}
    return Message(
        {
            "IFLA_IFNAME": link.name,
            "IFLA_ADDRESS": link.mac,
            "IFLA_MTU": link.mtu,
            "IFLA_IFALIAS": link.alias,
            "IFLA_MASTER": link.master,
            "IFLA_LINKINFO": {"IFLA_INFO_KIND": link.kind, "IFLA_INFO_DATA": data},
        },
        index=link.index,
        flags=UP if link.up else 0,
    )


def _way(way: Way) -> Message:
    address, _, length = way.dst.partition("/")
    return Message(
        {"RTA_DST": None if length == "0" else address, "RTA_OIF": way.oif},
        dst_len=int(length),
        proto=way.proto,
    )


def _forwarding(kernel: Kernel, index: int, mac: str, target: str | None, placed: bool) -> Message:
    facts: dict[str, Any] = {"NDA_LLADDR": mac, "NDA_DST": target}
    if placed:
        facts["NDA_MASTER"] = kernel.links[index].master
    return Message(facts, ifindex=index, state=_NOARP)


def _family(address: str) -> int:
    return socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6


def _shown(facts: dict[str, Any]) -> str:
    return " ".join(str(facts[key]) for key in ("ifname", "index", "kind") if key in facts)
