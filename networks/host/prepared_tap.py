"""The TAP that root prepared for an unprivileged user, by which its guests have real addresses.

Root made it once, with the guests' gateway on it, and leads public addresses there; the user's
switch opens it. To look at it takes no privilege.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, ClassVar

from pyroute2 import IPRoute

from cloud.errors import CumuletError
from networks.host.links import index_of

_IFF_UP = 0x1  # linux/if.h
_MAIN_TABLE = 254
_REMEDY = "as root, run `deploy/host prepare-tap`, or correct CUMULET_HOST_TAP"


class TapUnusable(CumuletError):
    """The TAP that is to lead guests outside cannot be used."""


class TapMissing(TapUnusable):
    code: ClassVar[str] = "tap_missing"


class TapForeign(TapUnusable):
    code: ClassVar[str] = "tap_foreign"


class TapDown(TapUnusable):
    code: ClassVar[str] = "tap_down"
    retryable: ClassVar[bool] = True


class TapInUse(TapUnusable):
    code: ClassVar[str] = "tap_in_use"
    retryable: ClassVar[bool] = True


@dataclass(frozen=True)
class PreparedTap:
    """`ranges`: the public networks that are led to it. `taken`: a program has it open."""

    name: str
    ranges: tuple[str, ...]
    taken: bool


def find(uid: int, name: str | None = None) -> PreparedTap | None:
    """The named TAP, else one that belongs to the user, None without any.

    Raises TapUnusable, NetlinkError or OSError.
    """
    with IPRoute() as netlink:
        link = _named(netlink, name, uid) if name else _of_user(netlink, uid)
        if link is None:
            return None
        found = str(link.get_attr("IFLA_IFNAME"))
        if not link["flags"] & _IFF_UP:
            raise TapDown(
                f"the interface {found} that leads guests outside is down: as root, run"
                f" `ip link set {found} up`"
            )
        taken = bool(link.get_attr("IFLA_CARRIER"))
        return PreparedTap(found, _led_to(netlink, link["index"]), taken)


def in_use(tap: str) -> TapInUse:
    """What to say of a TAP that another program has open."""
    return TapInUse(
        f"the interface {tap} that leads guests outside is open in another program of this user:"
        f" end that one, or {_REMEDY}"
    )


def _named(netlink: Any, name: str, uid: int) -> Any:
    index = index_of(netlink, name)
    if index is None:
        raise TapMissing(f"there is no interface {name} to lead guests outside: {_REMEDY}")
    (link,) = netlink.link("get", index=index)
    if _owner(link) != uid:
        raise TapForeign(
            f"the interface {name} is no TAP of the user that this host's agent runs as"
            f" (uid {uid}): {_REMEDY}"
        )
    return link


def _of_user(netlink: Any, uid: int) -> Any:
    links = netlink.link("dump", kind="tun")
    return next((link for link in links if _owner(link) == uid), None)


def _owner(link: Any) -> int | None:
    """The uid that may open a TUN or TAP; None for any other interface."""
    owner = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_TUN_OWNER")
    return None if owner is None else int(owner)


def _led_to(netlink: Any, index: int) -> tuple[str, ...]:
    found = []
    for family, everything in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for route in netlink.get_routes(family=family, oif=index, table=_MAIN_TABLE):
            network = ip_network((route.get_attr("RTA_DST") or everything, route["dst_len"]))
            if not network.is_link_local and not network.is_multicast and network.prefixlen:
                found.append(str(network))
    return tuple(sorted(set(found)))
