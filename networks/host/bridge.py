"""The bridge that guests share with the host's uplink: set up, taken away, and TAPs put in it.

Set-up is one step: the uplink becomes a port of the bridge, and the host's addresses and routes
move there; whatever fails, all of it is taken back. The operations come from
`networks.host.bridge_plan`; `vms.host.bridging` decides when, and keeps them on disk meanwhile.
Nothing is written into the distribution's own network configuration.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import structlog
from pyroute2 import IPRoute, NetlinkError

from cloud import shell
from cloud.errors import CumuletError
from networks.host import bridge_plan
from networks.host.bridge_plan import BRIDGE, Arguments, Change, Operation
from networks.host.interface import SYSCTL, CannotBridge, look
from networks.host.links import NoUplink, Tap, find_uplink, host_mac, index_of

log = structlog.get_logger(__name__)

_UP = 1  # IFF_UP
_TENTATIVE = 0x40  # IFA_F_TENTATIVE, linux/if_addr.h
_SETTLE_SECONDS = 2.0
_POLL_SECONDS = 0.01
_FILTER = SYSCTL / "bridge"
_MODULE_SECONDS = 10.0
# What the kernel says of a change that was made already, or of a thing that is gone.
_ALREADY_SO = {
    *(errno.EEXIST, errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL),
}

Make = Callable[[Change], None]


class BridgeInUse(CumuletError):
    """Guests are still in the bridge."""

    code: ClassVar[str] = "bridge_in_use"
    retryable: ClassVar[bool] = True


class BridgeFailed(CumuletError):
    """The kernel refused a part of the set-up, and everything was taken back."""

    code: ClassVar[str] = "bridge_failed"
    retryable: ClassVar[bool] = True


class BridgeHalfMade(BridgeFailed):
    """The kernel refused a part of the set-up, and then a part of what takes it back."""

    code = "bridge_half_made"


def exists() -> bool:
    """Whether this host is bridged."""
    try:
        socket.if_nametoindex(BRIDGE)
    except OSError:
        return False
    return True


def joining(uplink: str | None) -> list[Operation]:
    """What makes the uplink a port of the bridge. Raises NoUplink, CannotBridge or BridgeFailed."""
    _load_filter()
    with _asked() as netlink:
        return bridge_plan.bridging(look(netlink, find_uplink(netlink, uplink).name))


def leaving(uplink: str) -> list[Operation]:
    """What makes `uplink` the host's again. Raises BridgeInUse, and as `joining` does."""
    with _asked() as netlink:
        if index_of(netlink, uplink) is None:
            raise NoUplink(
                f"the interface {uplink!r} that was in the bridge is gone: bring it back"
            )
        ports = netlink.get_links(master=index_of(netlink, BRIDGE))
        names = {str(port.get_attr("IFLA_IFNAME")) for port in ports}
        if guests := sorted(names - {uplink}):
            raise BridgeInUse(
                f"{', '.join(guests)} still in the bridge: shut down or move the servers with"
                " bridged addresses, or set CUMULET_HOST_BRIDGE=on again"
            )
        return bridge_plan.unbridging(look(netlink, BRIDGE), uplink)


def rejoin(uplink: str) -> bool:
    """Whether the uplink was there and no port of anything; it is one again. Raises BridgeFailed.

    What it was given meanwhile, as by a distribution that saw it come back, the bridge has.
    """
    with _asked() as netlink:
        index = index_of(netlink, uplink)
        if index is None:
            return False
        (link,) = netlink.link("get", index=index)
        if link.get_attr("IFLA_MASTER"):
            return False
        netlink.link("set", index=index, master=index_of(netlink, BRIDGE), state="up")
        netlink.flush_addr(index=index)
    return True


def uplink_of(operations: Sequence[Operation]) -> str:
    """The interface that a set-up is about."""
    return next(
        change.device
        for operation in operations
        if (change := operation.do) and "master" in change.arguments
    )


def carry_out(operations: Sequence[Operation]) -> None:
    """All of it or nothing. Raises BridgeFailed, or BridgeHalfMade if even that failed."""
    with IPRoute() as netlink:
        execute(operations, Kernel(netlink).make)


def take_back(operations: Sequence[Operation]) -> None:
    """Undo what was broken off somewhere in the midst; raises BridgeHalfMade."""
    with IPRoute() as netlink:
        left = _undo(operations, Kernel(netlink).make)
    if left:
        raise BridgeHalfMade(f"a change of the uplink that was broken off stays in part: {left}")


def _load_filter() -> None:
    """What hands bridged frames to the rules for them may be a module that nobody asked for yet."""
    if not _FILTER.exists():
        with suppress(shell.CommandError):
            shell.run(["modprobe", "br_netfilter"], timeout=_MODULE_SECONDS)
    if not _FILTER.exists():
        raise CannotBridge(
            "the kernel has no br_netfilter, so bridged guests would have no firewalls: install"
            " the module, or leave CUMULET_HOST_BRIDGE off"
        )


@contextmanager
def _asked() -> Iterator[Any]:
    try:
        with IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        raise BridgeFailed(f"the kernel refused a request about the uplink: {error}") from error


def execute(operations: Sequence[Operation], make: Make) -> None:
    """`carry_out` with the function that makes one change; it raises NetlinkError or OSError."""
    for number, operation in enumerate(operations):
        try:
            if operation.do:
                make(operation.do)
        except (NetlinkError, OSError) as error:
            # The one that failed too: a part of it may have been done.
            left = _undo(operations[: number + 1], make)
            failed = f"the uplink was not moved: {_words(operation.do)} failed ({error})"
            if left:
                raise BridgeHalfMade(f"{failed}, and taking it back: {left}") from error
            raise BridgeFailed(f"{failed}; everything is as it was before") from error


def _undo(operations: Sequence[Operation], make: Make) -> str:
    """Take back what can be, the last first; says what could not."""
    left = []
    for operation in reversed(operations):
        if operation.undo is None:
            continue
        try:
            make(operation.undo)
        except (NetlinkError, OSError) as error:
            code = error.code if isinstance(error, NetlinkError) else error.errno
            if code not in _ALREADY_SO:
                log.error("not taken back", change=_words(operation.undo), reason=str(error))
                left.append(f"{_words(operation.undo)} ({error})")
    return ", ".join(left)


def ensure_port(netlink: Any, tap: Tap) -> None:
    """Raise the TAP and put it into the bridge, whose MTU it takes: the guest is told its own."""
    bridge = index_of(netlink, BRIDGE)
    (link,) = netlink.link("get", index=bridge)
    port = {"master": bridge, "mtu": link.get_attr("IFLA_MTU"), "address": host_mac(tap.nic)}
    netlink.link("set", index=index_of(netlink, tap.name), state="up", **port)


def is_port(netlink: Any, tap: Tap) -> bool:
    bridge, index = index_of(netlink, BRIDGE), index_of(netlink, tap.name)
    if bridge is None or index is None:
        return False
    (link,) = netlink.link("get", index=index)
    return bool(link.get_attr("IFLA_MASTER") == bridge and link["flags"] & _UP)


class Kernel:
    """Makes one change at a time. A device that is gone is ENODEV."""

    def __init__(self, netlink: Any) -> None:
        self._netlink = netlink

    def make(self, change: Change) -> None:
        """Raises NetlinkError or OSError."""
        match change.what:
            case "sysctl":
                _set(**change.arguments)
            case "settled":
                self._settle(change.device)
            case "link":
                self._link(change)
            case "addr":
                index = self._index(change.device)
                self._netlink.addr(change.verb, index=index, **change.arguments)
            case "route":
                index = self._index(change.device)
                self._netlink.route(change.verb, oif=index, **change.arguments)
            case "neigh":
                index = self._index(change.device)
                self._netlink.neigh(change.verb, ifindex=index, **change.arguments)

    def _link(self, change: Change) -> None:
        if change.verb == "add":
            self._netlink.link("add", ifname=change.device, **change.arguments)
            return
        arguments: Arguments = dict(change.arguments)
        if "master" in arguments:
            master = arguments["master"]
            arguments["master"] = self._index(master) if master else 0
        self._netlink.link(change.verb, index=self._index(change.device), **arguments)

    def _index(self, name: str) -> int:
        index = index_of(self._netlink, name)
        if index is None:
            raise NetlinkError(errno.ENODEV, f"there is no interface {name}")
        return index

    def _settle(self, device: str) -> None:
        """The kernel decides about a new IPv6 address a moment later, whatever it decides."""
        index = self._index(device)
        deadline = time.monotonic() + _SETTLE_SECONDS
        while any(
            address.get_attr("IFA_FLAGS") & _TENTATIVE
            for address in self._netlink.get_addr(family=socket.AF_INET6, index=index)
        ):
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, f"an address of {device} stays tentative")
            time.sleep(_POLL_SECONDS)


def _set(name: str, value: str) -> None:
    """Skips what the kernel lacks, and what went with its interface."""
    path = SYSCTL / name
    if path.exists() and path.read_text().strip() != value:
        path.write_text(value)


def _words(change: Change | None) -> str:
    return f"{change.what} {change.verb} {change.device} {change.arguments}" if change else ""
