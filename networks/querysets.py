"""Reads of networks and addresses, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.db import models

if TYPE_CHECKING:
    from networks.models import Address, Network  # noqa: F401  (names in base classes)


class NetworkQuerySet(models.QuerySet["Network"]):
    def public_in(self, location_id: int) -> Self:
        return self.filter(kind="public", location_id=location_id)


class AddressQuerySet(models.QuerySet["Address"]):
    def held(self) -> Self:
        """Addresses that somebody has, or whose release a host has not yet proved."""
        return self.filter(released_at=None)
