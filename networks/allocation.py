"""Lending addresses and taking them back. Call inside the transaction that uses the address.

`cloud.locks` tells in which order rows are locked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import ClassVar

from django.conf import settings
from django.db.models import F, Value
from django.db.models.functions import Greatest

from cloud.errors import CumuletError, LimitExceeded
from cloud.locks import hold_project
from cloud.models import Host, Location, Project
from networks.addressing import IpNetwork, first_free
from networks.ledger import end_tenures
from networks.models import (
    Address,
    FloatingIp,
    IpType,
    Network,
    PrimaryIp,
    PublicIp,
    Withdrawal,
)
from networks.querysets import NetworkQuerySet

EVERY_MODE: Collection[str] = (Network.Mode.ROUTED, Network.Mode.BRIDGED)
# No host proves this generation: the address is reserved until it says that it has it no more.
_NEVER = 2**53 - 1
_VERSIONS = {IpType.IPV4: 4, IpType.IPV6: 6}


class NoFreeAddress(CumuletError):
    """No pool has an address left (HTTP 412)."""

    code: ClassVar[str] = "unavailable"
    status: ClassVar[int] = 412


class Unverified(NoFreeAddress):
    """The inventory was restored, and it is not known yet what is in use (HTTP 412)."""

    code: ClassVar[str] = "inventory_not_verified"


@dataclass(frozen=True)
class Reach:
    """Which pools will do: of these modes and, with a host, those whose addresses get there."""

    modes: Collection[str] = EVERY_MODE
    host: Host | None = None


ANYWHERE = Reach()


@dataclass(frozen=True)
class Wish:
    """Which address is wanted, for whom, and where it has to get."""

    project: Project
    location: Location
    type: IpType
    reach: Reach = ANYWHERE


def lend(wish: Wish) -> Address:
    """The lowest free address that fits the wish; raises NoFreeAddress or Unverified.

    Locking the pools' rows makes parallel claims wait for each other; the unique constraint on
    held addresses is the guarantee behind it.
    """
    _check_verified(wish.location)
    for pool in pools_for(wish).filter(dhcp=False).select_for_update(of=("self",), no_key=True):
        held = pool.addresses.held().order_by("ip").values_list("ip", flat=True)
        free = first_free(
            ip_network(str(pool.ip_range)),
            (ip_address(str(ip)) for ip in held.iterator()),
            never_lent(pool),
        )
        if free is not None:
            return Address.objects.create(network=pool, project=wish.project, ip=str(free))
    raise NoFreeAddress(
        f"no free public {wish.type.label} address in location {wish.location}: delete one that is"
        f" not needed, {_more_addresses(wish.location)}"
    )


def _check_verified(location: Location) -> None:
    """What looks free may be in use on a host that has not been asked since the restore."""
    silent = Host.objects.unverified().filter(location=location, revoked_at=None)
    if names := ", ".join(silent.values_list("name", flat=True)):
        raise Unverified(
            f"the inventory was restored: no address of location {location} is lent until these"
            f" hosts have said what they have: {names}. One that is gone for good is cut off with"
            " `manage.py host_revoke NAME`"
        )


def leads_nowhere(pool: Network) -> bool:
    """All hosts of its location are in user mode, and it is led to the TAP of none of them."""
    hosts = Host.objects.filter(location=pool.location_id)
    pools = Network.objects.filter(pk=pool.pk)
    return hosts.all_in_user_mode() and not any(
        reaching(pools, host).exists() for host in hosts.with_taps()
    )


def pools_for(wish: Wish) -> NetworkQuerySet:
    """The pools that may fulfil the wish, in the order in which they are asked."""
    modes, host = wish.reach.modes, wish.reach.host
    pools = Network.objects.for_project(wish.project.pk).filter(
        location=wish.location, ip_range__family=_VERSIONS[wish.type], mode__in=list(modes)
    )
    return reaching(pools, host) if host else pools


def reaching(pools: NetworkQuerySet, host: Host) -> NetworkQuerySet:
    """Those of the pools whose addresses get to the host.

    What is led to a TAP is led to that host in user mode alone, which gets nothing else. Its word
    counts in its own location, so that a host that lies takes no addresses from others.
    """
    if host.in_user_mode:
        return pools.inside(host.public_ranges)
    neighbours = Host.objects.with_taps().filter(location=host.location_id)
    taps = neighbours.values_list("public_ranges", flat=True)
    led = [cidr for ranges in taps for cidr in ranges]
    return pools.exclude(pk__in=Network.objects.inside(led).values("pk")) if led else pools


def never_lent(pool: Network) -> list[IpNetwork]:
    """What is excluded, and in a bridged pool also what stands on the wire already."""
    barred = [ip_network(text) for text in pool.excluded]
    if pool.mode == Network.Mode.BRIDGED:
        hosts = Host.objects.filter(location=pool.location_id).exclude(uplink_ip=None)
        taken = [*hosts.values_list("uplink_ip", flat=True), pool.gateway]
        barred += [ip_network(str(ip)) for ip in taken if ip is not None]
    return barred


def take_share(project: Project, kind: type[PublicIp]) -> None:
    """Raise LimitExceeded if the project has all the IPs of this kind that it may have.

    Parallel requests are counted one after the other.
    """
    hold_project(project.pk)
    most = _limits()[kind]
    have = kind._default_manager.filter(project=project).count()
    if have >= most:
        raise LimitExceeded(
            f"{kind.resource}_limit",
            f"project {project} may have {most} {kind._meta.verbose_name_plural} and has {have}:"
            " delete some, or ask the operator for more",
        )


def give_back(address: Address, now: datetime) -> None:
    """End the lending; while a host may still have the address, it stays in quarantine."""
    end_tenures([address.pk], now)
    quarantine([address.pk])
    release_proven([address.pk], now)


def quarantine(address_ids: Iterable[int]) -> int:
    """Note that these addresses are to be given back."""
    held = Address.objects.filter(pk__in=list(address_ids), state=Address.State.HELD)
    return held.update(state=Address.State.QUARANTINE)


@dataclass(frozen=True)
class Reservation:
    """For a server of which the inventory does not know that it has addresses, in a location.

    `holding`: the row that says so, by which it is known; the server's number is its host's word.
    """

    holding: int
    server_id: int
    location_id: int


def reserve(wish: Reservation, ips: Collection[str], now: datetime) -> None:
    """Nobody else gets these addresses, or the first ones of these networks of /64, as long as the
    server has them. What is of no pool of the location is lent to nobody there, and left out.
    """
    rows = Withdrawal.objects.filter(holding=wish.holding)
    known = {str(ip): pk for ip, pk in rows.values_list("address__ip", "address_id")}
    # IPv4 first, as servers are made: pools are locked in one order.
    for ip in sorted(set(ips) - known.keys(), key=lambda ip: (":" in ip, ip)):
        pools = Network.objects.public().filter(location=wish.location_id)
        there = pools.filter(ip_range__net_contains_or_equals=ip)
        pool = there.select_for_update(of=("self",), no_key=True).first()
        if pool is None:
            continue
        address = Address.objects.held().filter(ip=ip).first() or Address.objects.create(
            network=pool, ip=ip, state=Address.State.QUARANTINE
        )
        Withdrawal.objects.create(
            address=address,
            server_id=wish.server_id,
            generation=_NEVER,
            holding=wish.holding,
        )
    if gone := {pk for ip, pk in known.items() if ip not in ips}:
        rows.filter(address__in=gone).delete()
        release_proven(gone, now)


def release_reserved(holding: int, now: datetime) -> None:
    """The server has nothing of what was reserved for it any more."""
    reserved = Withdrawal.objects.filter(holding=holding)
    addresses = set(reserved.values_list("address_id", flat=True))
    if addresses:
        reserved.delete()
        release_proven(addresses, now)


def withdrawn(server_id: int, generation: int | None, now: datetime) -> set[int]:
    """The server's host proved a generation (None: that the server is gone).

    Answers the addresses that it let go of by that; those in quarantine may be lent again.
    """
    proved = Withdrawal.objects.filter(server_id=server_id, holding=None)
    if generation is not None:
        proved = proved.filter(generation__lte=generation)
    addresses = set(proved.values_list("address_id", flat=True))
    if addresses:
        # Two hosts may prove at once that they let go; the later one must see the earlier.
        # IPs are locked before addresses, and who ends a move needs both.
        ips = FloatingIp.objects.select_for_update(no_key=True).filter(address__in=addresses)
        list(ips.order_by("pk"))
        rows = Address.objects.select_for_update(no_key=True).filter(pk__in=addresses)
        list(rows.order_by("pk"))
        proved.delete()
        release_proven(addresses, now)
    return addresses


def release_proven(address_ids: Iterable[int], now: datetime) -> int:
    """End the quarantine of those of these addresses that no host has any more."""
    proved = Address.objects.provably_free().filter(pk__in=list(address_ids))
    free = list(proved.values_list("pk", flat=True))
    quarantined = Address.objects.filter(pk__in=free, state=Address.State.QUARANTINE)
    # A clock that was set back releases nothing before it was held.
    end = Greatest(F("held_since"), Value(now))
    return quarantined.update(state=Address.State.RELEASED, released_at=end)


def _more_addresses(location: Location) -> str:
    if Host.objects.filter(location=location).all_in_user_mode():
        return (
            "lead a pool to a host there with `deploy/host prepare-tap` and add it with"
            " `manage.py pool_add`, or use forwarded ports: its hosts are in user mode"
        )
    return "or add a pool with `manage.py pool_add`"


def _limits() -> dict[type[PublicIp], int]:
    return {
        PrimaryIp: settings.PROJECT_PRIMARY_IPS,
        FloatingIp: settings.PROJECT_FLOATING_IPS,
    }
