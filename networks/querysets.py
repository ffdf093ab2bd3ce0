"""Reads of networks and addresses, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypedDict

from django.db import models
from django.db.models import Count, Q

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    from networks.models import Address, Network  # noqa: F401  (names in base classes)


class NetworkUse(TypedDict):
    held_count: int


class NetworkQuerySet(models.QuerySet["Network"]):
    def with_use(self) -> models.QuerySet[WithAnnotations[Network, NetworkUse]]:
        """With how many of its addresses are held."""
        return self.annotate(  # type: ignore[return-value]  # a TypedDict of another name
            held_count=Count("addresses", filter=Q(addresses__released_at=None))
        )

    def public_in(self, location_id: int) -> Self:
        return self.filter(kind="public", location_id=location_id)


class AddressQuerySet(models.QuerySet["Address"]):
    def held(self) -> Self:
        """Addresses that somebody has, or whose release a host has not yet proved."""
        return self.filter(released_at=None)
