"""Reads of servers, images and keys, by name."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models import Exists, F, OuterRef, Q

from cloud.models import ActionResource
from cloud.querysets import LabelledQuerySet

if TYPE_CHECKING:
    from vms.models import VM, Image, SshKey  # noqa: F401  (names in base classes)

# While one of these runs, a server takes no other command.
EXCLUSIVE_COMMANDS = ("create_server", "delete_server")

# What is deprecated is offered for this long after its announcement.
NOTICE = timedelta(days=90)


def offered(now: datetime) -> Q:
    """Server types and images that new servers may have: the deprecated ones for a while."""
    return Q(deprecated_at=None) | Q(deprecated_at__gt=now - NOTICE)


class VMQuerySet(LabelledQuerySet["VM"]):
    def for_api(self) -> models.QuerySet[VM]:
        """With all that a server's representation shows, in a constant number of queries.

        Adds `locked`: whether a command is running that excludes all others.
        """
        exclusive = ActionResource.objects.filter(
            type="server",
            resource_id=OuterRef("pk"),
            action__status="running",
            action__command__in=EXCLUSIVE_COMMANDS,
        )
        return (
            self.select_related("host__location", "server_type", "image")
            .prefetch_related("nics__address", "firewall_uses")
            .annotate(locked=Exists(exclusive))
        )

    def for_spec(self) -> Self:
        """With all that the host is told about a VM."""
        return self.select_related(
            "host__location", "server_type", "image", "project"
        ).prefetch_related("nics__address__network", "disks", "firewall_uses__firewall")

    def for_admin(self) -> Self:
        """With all that an operator's list and page show."""
        return self.for_spec()

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
