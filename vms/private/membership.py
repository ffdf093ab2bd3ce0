"""Which servers are in which private networks: rows only, in the transaction of a caller.

The caller holds the project, has locked the server (`cloud.locks`), raises its generation and
calls `vms.private.replication.replicate` afterwards. Every change leaves its audit entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import ClassVar, Final

from django.db import transaction

from cloud.audit import changing, created
from cloud.constraints import refused_by
from cloud.errors import CumuletError, LimitExceeded, NotFound, invalid
from networks.addressing import first_free
from networks.models import PrivateNetwork
from networks.private.layout import Layout, first_address, overlap, parse_address, parse_network
from vms.interfaces import LAST_INDEX, PUBLIC_INDEX
from vms.models import VM, Holding, Nic, PrivateAddress

MOST_NETWORKS: Final = 3
# The wire contract's bounds of `MemberSpec.addresses`, of which one is the server's own, and of
# `NetworkSpec.members`.
MOST_ALIASES: Final = 15
MOST_MEMBERS: Final = 5000


class AlreadyAttached(CumuletError):
    """The server is in this network already (HTTP 422)."""

    code: ClassVar[str] = "server_already_attached"


class IpNotAvailable(CumuletError):
    """The address is another server's, reserved, or in no subnet (HTTP 422)."""

    code: ClassVar[str] = "ip_not_available"


class NoSubnetAvailable(CumuletError):
    """No subnet of the network has a free address (HTTP 422)."""

    code: ClassVar[str] = "no_subnet_available"


class NetworksOverlap(CumuletError):
    """The server is in another network with the same addresses (HTTP 422)."""

    code: ClassVar[str] = "networks_overlap"


@dataclass(frozen=True)
class Seat:
    """Which address a server is to get in a network; without one, the lowest that is free.

    `ip_range`: the subnet that it must be of.
    """

    ip: str | None = None
    ip_range: str | None = None
    alias_ips: Sequence[str] = ()


def join(vm: VM, network: PrivateNetwork, seat: Seat | None = None) -> Nic:
    """Give the server an interface in the network.

    Raises NotFound, InvalidInput, LimitExceeded, AlreadyAttached, NetworksOverlap,
    NoSubnetAvailable or IpNotAvailable.
    """
    seat = seat or Seat()
    network = existing(network)
    others = list(vm.nics.filter(network__isnull=False))
    _check_joining(vm, network, others)
    layout = network.layout
    ip = _chosen(network, layout, seat)
    free = set(range(PUBLIC_INDEX + 1, LAST_INDEX + 1)) - {nic.index for nic in others}
    nic = Nic.objects.create(vm=vm, index=min(free), network=network)
    _hold(nic, ip)
    _hold_aliases(nic, layout, seat.alias_ips)
    created(nic, "attach")
    return nic


def leave(nic: Nic) -> None:
    """Take the interface and its addresses away."""
    with changing(nic, "detach"):
        nic.delete()


def replace_aliases(nic: Nic, alias_ips: Sequence[str]) -> None:
    """Let the interface have exactly these alias IPs.

    Raises InvalidInput, LimitExceeded or IpNotAvailable.
    """
    assert nic.network is not None
    with changing(nic, "change_alias_ips"):
        nic.addresses.filter(alias=True).delete()
        _hold_aliases(nic, nic.network.layout, alias_ips)


def nic_in(vm: VM, network: PrivateNetwork) -> Nic:
    """The server's interface in the network; raises InvalidInput."""
    nic = vm.nics.filter(network=network).first()
    if nic is None:
        raise invalid("network", f"server {vm} is not attached to network {network}")
    return nic


def existing(network: PrivateNetwork) -> PrivateNetwork:
    """The network as it is now; raises NotFound if it is deleted."""
    found = PrivateNetwork.objects.existing().select_related("project").filter(pk=network.pk)
    if (now := found.first()) is None:
        raise NotFound(f"network with ID '{network.pk}' not found")
    return now


def _check_joining(vm: VM, network: PrivateNetwork, others: Sequence[Nic]) -> None:
    if not vm.host.takes_members:
        lacking = "lays no cables" if vm.host.in_user_mode else "makes no tunnels"
        raise invalid(
            "network",
            f"host {vm.host} of server {vm} cannot reach private networks: its agent {lacking}",
        )
    if any(nic.network_id == network.pk for nic in others):
        raise AlreadyAttached(f"server {vm} is attached to network {network} already")
    if len(others) >= MOST_NETWORKS:
        raise LimitExceeded("networks", f"server {vm} is in {MOST_NETWORKS} networks already")
    ranges = {IPv4Network(str(nic.network.ip_range)): nic.network for nic in others if nic.network}
    if other := overlap(ranges, IPv4Network(str(network.ip_range))):
        raise NetworksOverlap(
            f"server {vm} is in network {ranges[other]}, {other}: {network.ip_range} overlaps that"
        )
    if network.nics.count() >= MOST_MEMBERS:
        raise LimitExceeded("network_members", f"network {network} has {MOST_MEMBERS} members")


def _chosen(network: PrivateNetwork, layout: Layout, seat: Seat) -> IPv4Address:
    """The address that was asked for, if it can be had, or one that is free."""
    subnets = layout.subnets
    if seat.ip_range is not None:
        subnet = parse_network(seat.ip_range, "ip_range")
        if subnet not in subnets:
            raise invalid("ip_range", f"{subnet} is no subnet of network {network}")
        subnets = (subnet,)
    if not subnets:
        raise NoSubnetAvailable(f"network {network} has no subnet: add one first")
    if seat.ip is None:
        return _lowest_free(network, layout, subnets)
    ip = parse_address(seat.ip, "ip")
    if seat.ip_range is not None and ip not in subnets[0]:
        raise invalid("ip", f"{ip} is not in {subnets[0]}")
    return _usable(layout, ip)


def _usable(layout: Layout, ip: IPv4Address) -> IPv4Address:
    if layout.subnet_of(ip) is None:
        raise IpNotAvailable(f"{ip} is in no subnet of the network")
    if layout.is_reserved(ip):
        raise IpNotAvailable(f"{ip} is reserved: choose another address of the subnet")
    return ip


def _lowest_free(
    network: PrivateNetwork, layout: Layout, subnets: Sequence[IPv4Network]
) -> IPv4Address:
    reserved = [IPv4Network(first_address(one)) for one in (layout.ip_range, *subnets)]
    reserved += map(IPv4Network, Holding.objects.private_in(network.pk))
    for subnet in subnets:
        held = network.addresses.filter(ip__net_contained_or_equal=str(subnet)).order_by("ip")
        taken = (ip_address(str(ip)) for ip in held.values_list("ip", flat=True))
        free = first_free(subnet, taken, reserved)
        if isinstance(free, IPv4Address):
            return free
    raise NoSubnetAvailable(f"no subnet of network {network} has a free address: add another one")


def _hold_aliases(nic: Nic, layout: Layout, texts: Sequence[str]) -> None:
    if len(texts) > MOST_ALIASES:
        raise LimitExceeded("alias_ips", f"an interface has at most {MOST_ALIASES} alias IPs")
    for text in texts:
        _hold(nic, _usable(layout, parse_address(text, "alias_ips")), alias=True)


def _hold(nic: Nic, ip: IPv4Address, *, alias: bool = False) -> None:
    assert nic.network_id is not None
    if str(ip) in Holding.objects.private_in(nic.network_id):
        raise IpNotAvailable(
            f"{ip} is that of a server which the inventory does not know: choose another address"
        )
    taken = IpNotAvailable(f"{ip} is taken: choose another address")
    with refused_by({"private_address_held_once": taken}), transaction.atomic():
        PrivateAddress.objects.create(network_id=nic.network_id, nic=nic, ip=str(ip), alias=alias)
