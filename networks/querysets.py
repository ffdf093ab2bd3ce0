"""Reads of networks, addresses and public IPs, by name."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Self, TypedDict

from django.db import models
from django.db.models import Count, F, Q

from cloud.querysets import LabelledQuerySet
from networks.addressing import UNIT6, IpAddress, unit_of

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    from networks.models import (  # noqa: F401  (names in base classes)
        Address,
        FloatingIp,
        Network,
        PrimaryIp,
        Tenure,
    )


class NetworkUse(TypedDict):
    held_count: int


class NetworkQuerySet(models.QuerySet["Network"]):
    def with_use(self) -> models.QuerySet[WithAnnotations[Network, NetworkUse]]:
        """With how many of its addresses are held."""
        return self.annotate(  # type: ignore[return-value]  # a TypedDict of another name
            held_count=Count("addresses", filter=Q(addresses__released_at=None))
        )

    def public(self) -> Self:
        return self.filter(kind="public")

    def of_version(self, version: int) -> Self:
        """Of IPv4 or of IPv6."""
        return self.filter(ip_range__family=version)

    def inside(self, ranges: Iterable[str]) -> Self:
        """Those whose whole range is inside one of these."""
        one_of = [Q(ip_range__net_contained_or_equal=cidr) for cidr in ranges]
        return self.filter(Q(*one_of, _connector=Q.OR)) if one_of else self.none()

    def for_project(self, project_id: int) -> Self:
        """Those that lend to the project: its own ones first, those with outside DHCP last."""
        mine = self.public().filter(Q(owner=None) | Q(owner_id=project_id))
        return mine.order_by(F("owner").asc(nulls_last=True), "dhcp", "pk")


class AddressQuerySet(models.QuerySet["Address"]):
    def held(self) -> Self:
        """Addresses that somebody has, or whose release a host has not yet proved."""
        return self.filter(released_at=None)

    def provably_free(self) -> Self:
        """Asked to be released, and every host that had them has let go."""
        return self.filter(state="quarantine", withdrawals=None)


class PrimaryIpQuerySet(LabelledQuerySet["PrimaryIp"]):
    def with_server(self) -> Self:
        """With the address, and with the network interface that has it."""
        return self.select_related("address", "location", "nic4", "nic6")

    def having_ip(self, text: str) -> Self:
        """The one of this address; of IPv6 also by its /64, or by any address in it."""
        try:
            address = ip_address(text.removesuffix(f"/{UNIT6}"))
        except ValueError:
            return self.none()
        return self.filter(address__ip=str(unit_of(address)))


class FloatingIpQuerySet(LabelledQuerySet["FloatingIp"]):
    def with_server(self) -> Self:
        """With the address, and with the network interface that has it."""
        return self.select_related("address", "location", "assignment__nic")


class TenureQuerySet(models.QuerySet["Tenure"]):
    def of(self, ip: IpAddress) -> Self:
        """Everybody who ever held this address."""
        return self.filter(address__ip=str(unit_of(ip)))

    def at(self, moment: datetime) -> Self:
        return self.filter(Q(until=None) | Q(until__gt=moment), since__lte=moment)
