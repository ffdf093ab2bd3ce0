"""TAP interfaces of guests, by netlink. What `ensure_*` and `remove_*` do may be repeated.

Every NIC is a TAP of its own. The guest's gateways are addresses on it, so nothing of the host's
own addresses is told to guests. The interface's alias says which host made it and what it was
made from: so a change of the NIC's document is seen without reading everything back.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, ClassVar

from pyroute2 import NetlinkError

from cloud.errors import CumuletError
from networks.host import addresses
from networks.host.addresses import Network
from networks.spec import NetworkSpec, NicSpec

_SYSCTL = Path("/proc/sys/net")
_SCOPE_LINK = 253  # RT_SCOPE_LINK, rtnetlink(7)
_IFA_F_NODAD = 0x02  # linux/if_addr.h
_NO_ADDRESSES = "1"  # IN6_ADDR_GEN_MODE_NONE, linux/if_link.h
ALIAS = "cumulet"
# What vms.host.paths.tap_name begins with.
TAP_PREFIX = "cu"
# Interfaces of private networks and their mesh (networks.host.plan and .mesh). They come and go
# with networks, and networks.host.private_rules keep everybody's guests off them.
PRIVATE_PREFIXES = ("cb", "cc", "ce", "cg", "cv", "cw")


class NoUplink(CumuletError):
    """There is no interface that guests could be reached through."""

    code: ClassVar[str] = "uplink_missing"
    retryable: ClassVar[bool] = True


@dataclass(frozen=True)
class Uplink:
    """The interface towards the world: its first address, and the networks that the host lives on.

    `networks`: by whichever interface, but for those of guests. `mac` is None where the link has
    no addresses of its own, as in a tunnel; `mtu` in bytes.
    """

    name: str
    index: int
    address: str
    networks: tuple[Network, ...]
    mac: str | None
    mtu: int = 1500


@dataclass(frozen=True)
class Tap:
    """A NIC's interface on the host; `owner`: the uid that may open it (None: root's alone).

    `network`: what a private one is in, None as long as the host has not been told.
    """

    name: str
    nic: NicSpec
    owner: int | None
    network: NetworkSpec | None = None

    @property
    def bridged(self) -> bool:
        return self.nic.mode == "public_bridged"

    @property
    def routed(self) -> bool:
        return self.nic.mode == "public_routed"

    @property
    def private(self) -> bool:
        return self.nic.mode == "private"


def find_uplink(netlink: Any, name: str | None) -> Uplink:
    """The named interface, else the one of the default route; raises NoUplink."""
    index = index_of(netlink, name) if name else _default_interface(netlink)
    if index is None:
        raise NoUplink(
            f"there is no interface {name!r}: correct CUMULET_HOST_UPLINK"
            if name
            else "there is no default route: set CUMULET_HOST_UPLINK to the outward interface"
        )
    configured = _configured(netlink)
    uplinks = (entry for entry in configured if entry["index"] == index)
    first = next((entry for entry in uplinks if entry["family"] == socket.AF_INET), None)
    if first is None:
        raise NoUplink(f"interface {name or index} has no IPv4 address: configure one")
    (link,) = netlink.link("get", index=index)
    networks = {
        ip_network((entry.get_attr("IFA_ADDRESS"), entry["prefixlen"]), strict=False)
        for entry in configured
    }
    return Uplink(
        name=str(link.get_attr("IFLA_IFNAME")),
        index=index,
        address=str(first.get_attr("IFA_LOCAL")),
        networks=tuple(network for network in networks if not network.is_link_local),
        mac=link.get_attr("IFLA_ADDRESS"),
        mtu=link.get_attr("IFLA_MTU"),
    )


def ensure_tap(netlink: Any, name: str, owner: int | None, host: str) -> None:
    """Make an interface that only the owner may open, still down: it has no rules yet."""
    if index_of(netlink, name) is not None:
        return
    uid = {} if owner is None else {"uid": owner}
    unless(errno.EBUSY, netlink.link, "add", ifname=name, kind="tuntap", mode="tap", **uid)
    # On a guest's link the host answers as its gateway and as nothing else.
    silence(name)
    sign(netlink, name, host, "")


def raise_tap(netlink: Any, tap: Tap) -> int:
    """Bring a routed guest's interface up with its gateways on it; answers its index."""
    index, nic = index_of(netlink, tap.name), tap.nic
    assert index is not None, "ensure_tap was called before"
    netlink.link("set", index=index, address=host_mac(nic), mtu=nic.mtu, state="up")
    gateway = {"address": nic.gateway, "prefixlen": 32, "scope": _SCOPE_LINK}
    unless(errno.EEXIST, netlink.addr, "add", index=index, **gateway)
    six = bool(addresses.ipv6(nic))
    # Also takes away what an address that the NIC had before has left.
    set_sysctl(f"ipv6/conf/{tap.name}/disable_ipv6", "0" if six else "1")
    if six:
        gateway6 = {"address": nic.gateway6, "prefixlen": 64, "flags": _IFA_F_NODAD}
        unless(errno.EEXIST, netlink.addr, "add", index=index, **gateway6)
    return index


def silence(name: str) -> None:
    """Keep the host from introducing itself on an interface."""
    set_sysctl(f"ipv6/conf/{name}/disable_ipv6", "1")
    set_sysctl(f"ipv6/conf/{name}/addr_gen_mode", _NO_ADDRESSES)
    set_sysctl(f"ipv6/conf/{name}/accept_ra", "0")


def remove_tap(netlink: Any, name: str) -> None:
    """Take the interface away, and with it its routes and addresses."""
    index = index_of(netlink, name)
    if index is not None:
        unless(errno.ENODEV, netlink.link, "del", index=index)


def sign(netlink: Any, name: str, host: str, made_from: str) -> None:
    """Write down which host made the interface, and a digest of what from."""
    alias = " ".join((ALIAS, host, made_from)).strip()
    netlink.link("set", index=index_of(netlink, name), ifalias=alias)


def signature(netlink: Any, name: str) -> tuple[str, str]:
    """The host and the digest that `sign` wrote; two empty strings without any."""
    index = index_of(netlink, name)
    if index is None:
        return "", ""
    (link,) = netlink.link("get", index=index)
    return signed(link)


def signed(link: Any) -> tuple[str, str]:
    """`signature` of an interface that the kernel told of."""
    name, _, rest = (link.get_attr("IFLA_IFALIAS") or "").partition(" ")
    host, _, made_from = rest.partition(" ")
    return (host, made_from) if name == ALIAS else ("", "")


def index_of(netlink: Any, name: str) -> int | None:
    found = netlink.link_lookup(ifname=name)
    return int(found[0]) if found else None


def unless(code: int, change: Callable[..., object], *arguments: Any, **more: Any) -> bool:
    """Make a change; False if the kernel says `code`, which means there is nothing to do."""
    try:
        change(*arguments, **more)
    except NetlinkError as error:
        if error.code != code:
            raise
        return False
    return True


def set_sysctl(name: str, value: str) -> None:
    """Write a sysctl of this namespace if it is another one; skip what the kernel lacks."""
    path = _SYSCTL / name
    if path.exists() and path.read_text().strip() != value:
        path.write_text(value)


def sysctl(name: str) -> str | None:
    path = _SYSCTL / name
    return path.read_text().strip() if path.exists() else None


def _configured(netlink: Any) -> list[Any]:
    """The addresses of the host's own interfaces. The kernel tells of all at once or of none."""
    own = {index for index, name in socket.if_nameindex() if not _is_apart(name)}
    return [entry for entry in netlink.get_addr() if entry["index"] in own]


def _is_apart(name: str) -> bool:
    return name == "lo" or name.startswith((TAP_PREFIX, *PRIVATE_PREFIXES))


def _default_interface(netlink: Any) -> int | None:
    for route in netlink.get_default_routes(family=socket.AF_INET):
        index = route.get_attr("RTA_OIF")
        if index is not None:
            return int(index)
    return None


def host_mac(nic: NicSpec) -> str:
    """The host's end of the link: the guest's MAC under another first byte, by which it is known.

    Two ends with one MAC would hear nothing of each other.
    """
    return f"{'fa' if nic.mac.startswith('fe') else 'fe'}{nic.mac[2:]}"
