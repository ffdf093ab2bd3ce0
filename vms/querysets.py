"""Reads of servers, images and keys, by name."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Self

from django.db.models import F, Q

from cloud.querysets import LabelledQuerySet

if TYPE_CHECKING:
    from vms.models import VM, Image, SshKey  # noqa: F401  (names in base classes)


class VMQuerySet(LabelledQuerySet["VM"]):
    def for_api(self) -> Self:
        """With all that a server's representation shows, in a constant number of queries."""
        return self.select_related(
            "host__location", "server_type", "image", "project"
        ).prefetch_related("nics__address__network", "disks")

    def for_spec(self) -> Self:
        """With all that the host is told about a VM."""
        return self.for_api()

    def due(self, now: datetime, observed_before: datetime) -> Self:
        """VMs to dispatch again: unmet or with a stale observation, and past their back-off."""
        unmet = Q(observed_generation__lt=F("generation")) | Q(converged=False)
        stale = Q(observed_at__lt=observed_before)
        return self.filter(unmet | stale, next_dispatch_at__lte=now).order_by("next_dispatch_at")


class ImageQuerySet(LabelledQuerySet["Image"]):
    def visible_to(self, project_id: int) -> Self:
        return self.filter(Q(project=None) | Q(project_id=project_id), deleted_at=None)


class SshKeyQuerySet(LabelledQuerySet["SshKey"]):
    """SSH keys."""
