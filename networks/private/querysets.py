"""Reads of private networks, by name."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models import F, Q

from cloud.models import Host
from cloud.querysets import LabelledQuerySet, waited

if TYPE_CHECKING:
    from networks.private.models import PrivateNetwork, Replica  # noqa: F401  (in base classes)


class PrivateNetworkQuerySet(LabelledQuerySet["PrivateNetwork"]):
    def existing(self) -> Self:
        """Without those that are deleted, of which hosts may still have something."""
        return self.filter(deleting=False)

    def cabled(self) -> Self:
        """Those with members on hosts in user mode."""
        return self.filter(nics__vm__host__in=Host.objects.cabled()).distinct()

    def with_parts(self) -> Self:
        """With all that a network's representation shows, in a constant number of queries."""
        return self.select_related("project").prefetch_related("subnets", "routes", "nics__vm")

    def provably_gone(self) -> Self:
        """Deleted, and no host has anything of them."""
        unproven = Q(replicas__observed_generation__lt=F("replicas__generation"))
        unproven |= Q(replicas__converged=False)
        return self.filter(deleting=True).exclude(pk__in=self.filter(unproven).values("pk"))


class ReplicaQuerySet(models.QuerySet["Replica"]):
    def due(self, now: datetime, observed_before: datetime) -> Self:
        """Those to send again: unproven or with a stale observation, and past their back-off."""
        unproven = Q(observed_generation__lt=F("generation")) | Q(converged=False)
        stale = Q(wanted=True, observed_at__lt=observed_before)
        return self.filter(waited(now), unproven | stale).order_by("next_dispatch_at")
