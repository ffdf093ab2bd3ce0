"""Reads of networks and addresses, by name."""

from __future__ import annotations

from typing import Self, TypeVar

from django.db import models

ModelT = TypeVar("ModelT", bound=models.Model)


class NetworkQuerySet(models.QuerySet[ModelT]):
    def public_in(self, location_id: int) -> Self:
        return self.filter(kind="public", location_id=location_id)


class AddressQuerySet(models.QuerySet[ModelT]):
    def held(self) -> Self:
        """Addresses that somebody has, or whose release a host has not yet proved."""
        return self.filter(released_at=None)
