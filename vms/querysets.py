"""Reads of servers, images and keys, by name."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypedDict

from django.db import models
from django.db.models import Count, Exists, F, FloatField, Min, OuterRef, Q, Sum
from django.db.models.functions import Extract, Floor, Greatest

from cloud.models import ActionResource
from cloud.querysets import LabelledQuerySet, waited

if TYPE_CHECKING:
    from vms.models import VM, Image, SshKey, UsageSample  # noqa: F401  (names in base classes)
    from vms.usage import Period

# While one of these runs, a server takes no other command.
EXCLUSIVE_COMMANDS = ("create_server", "delete_server")

# What is deprecated is offered for this long after its announcement.
NOTICE = timedelta(days=90)


def offered(now: datetime) -> Q:
    """Server types and images that new servers may have: the deprecated ones for a while."""
    return Q(deprecated_at=None) | Q(deprecated_at__gt=now - NOTICE)


class ServerGroup(TypedDict):
    """Servers of one host in one status, and since when the oldest of them waits or drifts."""

    host__name: str
    status: str
    count: int
    unconfirmed_since: datetime | None
    drifting_since: datetime | None


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
            .prefetch_related(
                "nics__floating", "nics__addresses", "nics__forwards", "firewall_uses"
            )
            .annotate(locked=Exists(exclusive))
        )

    def for_spec(self) -> Self:
        """With all that the host is told about a VM."""
        return self.select_related(
            "host__location", "server_type", "image", "project"
        ).prefetch_related(
            "nics__floating",
            "nics__addresses",
            "nics__forwards",
            "nics__network__subnets",
            "nics__network__routes",
            "disks",
            "firewall_uses__firewall",
        )

    def without_public_interface(self) -> Self:
        """Those that neither a public address nor a port of their host leads to."""
        addressed = (
            Q(nics__ipv4__isnull=False)
            | Q(nics__ipv6__isnull=False)
            | Q(nics__dhcp_network__isnull=False)
            | Q(nics__behind_host=True)
        )
        return self.exclude(pk__in=self.filter(addressed).values("pk"))

    def by_host_and_status(self) -> models.QuerySet[VM, ServerGroup]:
        """`ServerGroup` of each host and status: what metrics say, whatever their number."""
        unconfirmed = Q(observed_generation__lt=F("generation"))
        return (
            self.order_by()
            .values("host__name", "status")
            .annotate(
                count=Count("pk"),
                unconfirmed_since=Min("goal_since", filter=unconfirmed),
                drifting_since=Min(
                    Greatest("goal_since", "converged_at"), filter=Q(converged=False)
                ),
            )
        )

    def due(self, now: datetime, observed_before: datetime) -> Self:
        """VMs to dispatch again: unmet or with a stale observation, and past their back-off."""
        unmet = Q(observed_generation__lt=F("generation")) | Q(converged=False)
        stale = Q(observed_at__lt=observed_before)
        due = self.filter(waited(now), unmet | stale, held_back="")
        return due.order_by("next_dispatch_at")


class ImageQuerySet(LabelledQuerySet["Image"]):
    def visible_to(self, project_id: int) -> Self:
        return self.filter(Q(project=None) | Q(project_id=project_id), deleted_at=None)


class SshKeyQuerySet(LabelledQuerySet["SshKey"]):
    """SSH keys."""


class UsageQuerySet(models.QuerySet["UsageSample"]):
    def fine(self) -> Self:
        """Samples as they were measured."""
        return self.filter(condensed=False)

    def oldest(self) -> datetime | None:
        found: datetime | None = self.aggregate(oldest=Min("at"))["oldest"]
        return found

    def in_steps(
        self, period: Period, columns: Iterable[str]
    ) -> models.QuerySet[UsageSample, dict[str, Any]]:
        """`number` of each step with samples, and `mean_COLUMN` weighted by their length."""
        passed = Extract("at", "epoch", output_field=FloatField()) - period.start.timestamp()
        means = {
            f"mean_{column}": Sum(F(column) * F("seconds"))
            / Sum("seconds", filter=Q(**{f"{column}__isnull": False}))
            for column in columns
        }
        inside = self.filter(at__gte=period.start, at__lt=period.end).order_by()
        steps = inside.annotate(number=Floor(passed / float(period.step))).values("number")
        return steps.annotate(**means).order_by("number")  # type: ignore[return-value]  # a dict
