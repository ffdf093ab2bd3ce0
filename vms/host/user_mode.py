"""What a host in user mode has for its guests: an address for forwarded ports, a TAP if root
prepared one, and a list of what guests must not call.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import structlog
from pyroute2 import IPRoute, NetlinkError

from cloud import files
from cloud.errors import CumuletError
from networks.host import nics, prepared_tap, switches
from networks.host.nics import NetworkRefused
from networks.host.outside_orders import ForwardOrder, Orders
from networks.host.prepared_tap import PreparedTap
from networks.host.switches import Switch
from networks.spec import USER_ADDRESS, USER_GATEWAY, USER_NETWORK, USER_RESOLVER, NicSpec
from vms.host.host import Host
from vms.spec import MOST_RANGES, VmSpec

log = structlog.get_logger(__name__)

_EVERYWHERE = "0.0.0.0"


class BrokerUnknown(CumuletError):
    """The broker's address is not known, so no guest can be kept from it."""

    code: ClassVar[str] = "broker_unknown"
    retryable: ClassVar[bool] = True


class NoTap(CumuletError):
    """A guest is to have public addresses, and no TAP leads to them."""

    code: ClassVar[str] = "tap_missing"


@dataclass(frozen=True)
class Near:
    """What is near the host, the same for all its guests.

    `protected`: networks that they must not call; `bound`: where forwarded ports are opened.
    """

    protected: tuple[str, ...]
    bound: str


def forward_ip(host: Host) -> str | None:
    """Where forwarded ports are reached; None without any address. Raises NetworkRefused."""
    if host.config.forward_ip:
        return str(host.config.forward_ip)
    return nics.uplink_address(host.surroundings)


def near(host: Host) -> Near:
    """Raises BrokerUnknown or NetworkRefused."""
    configured = _configured()
    own = {str(entry.get_attr("IFA_LOCAL")) for entry in configured}
    # An address that is translated on the way is none of this machine's.
    shown = forward_ip(host)
    bound = shown if shown in own or (shown and IPv4Address(shown).is_loopback) else _EVERYWHERE
    # The host and its neighbours, as its operator says, and always the broker.
    around = _networks(configured) if host.config.protected is None else host.config.protected
    networks = {one for one in around if one.version == 4}
    networks |= {IPv4Network(one) for one in own | _broker(host)}
    return Near(tuple(map(str, sorted(networks))), bound)


def orders(host: Host, spec: VmSpec, nic: NicSpec, near: Near) -> Orders:
    """For the process that leads the NIC outside."""
    return Orders(
        socket=str(host.paths.vm(spec.vm_id).frames(nic.index)),
        network=USER_NETWORK,
        gateway=USER_GATEWAY,
        resolver=USER_RESOLVER,
        guest=nic.ipv4 or USER_ADDRESS,
        hostname=spec.hostname,
        mtu=nic.mtu,
        protected=near.protected,
        forwards=tuple(
            ForwardOrder(one.protocol, near.bound, one.port, one.guest_port) for one in nic.forwards
        ),
    )


def tap(host: Host) -> PreparedTap | None:
    """Raises TapUnusable or NetworkRefused."""
    try:
        return prepared_tap.find(os.geteuid(), host.config.tap)
    except (NetlinkError, OSError) as error:
        raise _refused(error) from error


def free_tap(host: Host) -> PreparedTap | None:
    """`tap`, which no other program has open. Raises TapUnusable or NetworkRefused."""
    found = tap(host)
    if found and found.taken and not switches.is_alive(Switch(host.paths.tap_switch)):
        raise prepared_tap.in_use(found.name)
    return found


def public_ranges(host: Host) -> tuple[str, ...]:
    """What is led to guests by the prepared TAP, if it can be used."""
    try:
        found = free_tap(host)
    except CumuletError:
        return ()  # one of the host's problems
    return found.ranges[:MOST_RANGES] if found else ()


def is_tap_open(host: Host) -> bool:
    """Whether a program has the TAP that is there now. Raises TapUnusable or NetworkRefused."""
    found = tap(host)
    return found is not None and found.taken


def ensure_tap_switch(host: Host) -> None:
    """Raises NoTap, TapUnusable, NetworkRefused, VdeMissing, SwitchFailed or CommandError."""
    with files.locked(host.paths.locks / "tap-switch"):
        found = free_tap(host)
        if found is None:
            raise NoTap(
                "this host has no interface by which its guests have public addresses: as root,"
                " run `deploy/host prepare-tap`"
            )
        switch = Switch(host.paths.tap_switch, found.name)
        if not found.taken:  # it may still have one that root has made anew since then
            switches.remove(switch)
        switches.ensure(switch)


def _broker(host: Host) -> set[str]:
    name = unquote(urlsplit(host.config.broker_url).hostname or "")
    try:
        return set(_addresses_of(name))
    except OSError as error:
        raise BrokerUnknown(
            f"the broker's name {name!r} has no address now ({error}), and guests must be kept"
            " from it: it is tried again"
        ) from error


@cache  # a failure is not kept
def _addresses_of(name: str) -> frozenset[str]:
    """Of IPv4, as guests behind their host speak nothing else; it may have none."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return frozenset(str(address[0]) for kind, *_, address in found if kind == socket.AF_INET)


def _networks(configured: Iterable[Any]) -> set[IPv4Network]:
    return {
        IPv4Network((entry.get_attr("IFA_ADDRESS"), entry["prefixlen"]), strict=False)
        for entry in configured
    }


def _configured() -> list[Any]:
    try:
        with IPRoute() as netlink:
            return list(netlink.get_addr(family=socket.AF_INET))
    except (NetlinkError, OSError) as error:
        raise _refused(error) from error


def _refused(error: Exception) -> NetworkRefused:
    return NetworkRefused(f"the kernel does not tell of the host's network: {error}")
