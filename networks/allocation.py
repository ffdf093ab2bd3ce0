"""Lending addresses. Call inside the transaction that uses the address."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network

from cloud.errors import ResourceUnavailable
from cloud.models import Location, Project
from networks.addressing import first_free
from networks.models import Address, Network


def claim_public_ipv4(location: Location, project: Project, holder: str) -> Address:
    """The lowest free public address of the location; raises ResourceUnavailable.

    Locking the pool's row makes parallel claims wait for each other; the unique constraint on
    held addresses is the guarantee behind it.
    """
    pools = Network.objects.public_in(location.pk).select_for_update().order_by("pk")
    for pool in pools:
        held = pool.addresses.held().order_by("ip").values_list("ip", flat=True)
        free = first_free(
            IPv4Network(str(pool.ip_range)),
            (IPv4Address(str(ip)) for ip in held.iterator()),
            {IPv4Address(ip) for ip in pool.excluded},
        )
        if free is not None:
            return Address.objects.create(
                network=pool, project=project, ip=str(free), holder=holder
            )
    raise ResourceUnavailable(
        f"no free public IPv4 address in location {location}: delete a server that has one,"
        " or add a pool with `manage.py pool_add`"
    )


def release(address_ids: Iterable[int], now: datetime) -> int:
    """End these lendings; only for addresses whose host proved that they are unused."""
    return Address.objects.held().filter(pk__in=list(address_ids)).update(released_at=now)
