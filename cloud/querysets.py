"""Reads that every resource of the API shares, and those of hosts, tokens and actions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Self, TypedDict, TypeVar

from django.db import models
from django.db.models import Count, Min, Q, Sum, Value
from django.db.models.functions import Coalesce

from cloud.labels import parse_selector
from cloud.patience import LONGEST

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    from cloud.models import Action, ActionStep, ApiToken, Host  # noqa: F401  (names in base classes)

ModelT = TypeVar("ModelT", bound=models.Model)


# Network modes of hosts whose agents may make tunnels and bridges.
MESH_MODES = ("routed", "bridged")
# That of hosts without any privilege.
USER_MODE = "vde"


def waited(now: datetime) -> Q:
    """Rows whose back-off is over: `next_dispatch_at` has come, or is further off than any back-off
    leads. That one was written by a clock that has been set back since.
    """
    return Q(next_dispatch_at__lte=now) | Q(next_dispatch_at__gt=now + LONGEST)


class LabelledQuerySet(models.QuerySet[ModelT]):
    """Objects that carry labels."""

    def matching(self, selector: str) -> Self:
        """Those whose labels meet the selector; raises InvalidInput if it is malformed."""
        found = self
        for term in parse_selector(selector):
            has_key = Q(labels__has_key=term.key)
            one_of = Q(
                *(Q(labels__contains={term.key: value}) for value in term.values), _connector=Q.OR
            )
            match term.operator:
                case "exists":
                    found = found.filter(has_key)
                case "absent":
                    found = found.exclude(has_key)
                case "in":
                    found = found.filter(one_of)
                case "notin":
                    found = found.exclude(one_of)
        return found


class HostUse(TypedDict):
    """What VMs have claimed of a host; memory in MiB, disk in GiB."""

    vm_count: int
    used_cores: int
    used_memory_mb: int
    used_disk_gb: int


class HostQuerySet(models.QuerySet["Host"]):
    def with_use(self) -> models.QuerySet[WithAnnotations[Host, HostUse]]:
        """With `HostUse`."""
        return self.annotate(  # type: ignore[return-value]  # Coalesce is untyped
            vm_count=Count("vms"),
            used_cores=Coalesce(Sum("vms__cores"), Value(0)),
            used_memory_mb=Coalesce(Sum("vms__memory_mb"), Value(0)),
            used_disk_gb=Coalesce(Sum("vms__disk_gb"), Value(0)),
        )

    def silent(self, now: datetime, after_seconds: float) -> Self:
        """Hosts whose last heartbeat is older than `after_seconds`, or that never had one.

        One from the future tells nothing either: the clock has been set back since.
        """
        lately = (now - timedelta(seconds=after_seconds), now + timedelta(seconds=after_seconds))
        return self.exclude(last_heartbeat__range=lately)

    def with_taps(self) -> Self:
        """Hosts in user mode that root prepared a TAP for, to which public addresses are led."""
        return self.filter(network_mode=USER_MODE, revoked_at=None).exclude(public_ranges=[])

    def all_in_user_mode(self) -> bool:
        """Whether no host but those in user mode has joined, and one of them has."""
        modes = self.filter(revoked_at=None).exclude(network_mode="").order_by()
        return set(modes.values_list("network_mode", flat=True)) == {USER_MODE}

    def in_mesh(self) -> Self:
        """Hosts that can have members of private networks, and that other hosts talk to."""
        known = self.exclude(uuid=None).exclude(tunnel_key="").exclude(tunnel_ip=None)
        return known.filter(network_mode__in=MESH_MODES, revoked_at=None)

    def taking_members(self) -> Self:
        """Like `Host.takes_members`, of hosts that are known."""
        return self.in_mesh() | self.cabled()

    def cabled(self) -> Self:
        """Hosts in user mode that can lay cables into private networks."""
        known = self.exclude(uuid=None)
        return known.filter(network_mode=USER_MODE, cables=True, revoked_at=None)

    def accepting_cables(self) -> Self:
        """Hosts that can be the hub of a network's cables."""
        return self.taking_members().filter(cables=True).exclude(cable_endpoint="")

    def unverified(self) -> Self:
        """Hosts that have not said yet what they hold since the inventory was restored."""
        return self.exclude(unverified_since=None)

    def obeying(self, now: datetime, after_seconds: float) -> Self:
        """Hosts that may be told what should be: they speak, and the inventory knows what is."""
        return self.speaking(now, after_seconds).filter(unverified_since=None)

    def deaf(self, now: datetime, after_seconds: float) -> Self:
        """Hosts that are to be told nothing now: all that are not `obeying`."""
        return self.silent(now, after_seconds) | self.exclude(unverified_since=None)

    def speaking(self, now: datetime, after_seconds: float) -> Self:
        """Hosts that are not `silent`."""
        lately = (now - timedelta(seconds=after_seconds), now + timedelta(seconds=after_seconds))
        return self.filter(last_heartbeat__range=lately)

    def numbers(self) -> list[int]:
        """To be named in a query in place of a subquery: PostgreSQL then finds what is due by its
        own indexes, and not host by host.
        """
        return list(self.order_by().values_list("pk", flat=True))


class OpenActions(TypedDict):
    count: int
    since: datetime | None


class SoFar(TypedDict):
    """How many steps of its course are written down."""

    steps_so_far: int


class ActionQuerySet(models.QuerySet["Action"]):
    def open(self) -> Self:
        return self.filter(status="running")

    def open_since(self) -> OpenActions:
        """How many run, and since when the oldest of them does."""
        return self.open().aggregate(count=Count("pk"), since=Min("started"))  # type: ignore[return-value]  # a dict

    def overdue(self, now: datetime) -> Self:
        return self.open().filter(deadline__lt=now)

    def begun_in_the_future(self, now: datetime) -> Self:
        """Those of before the clock was set back."""
        return self.open().filter(started__gt=now + timedelta(minutes=1))

    def with_course(self) -> Self:
        """With their steps, in order, and what they are about."""
        return self.prefetch_related("steps", "resources")

    def with_steps_so_far(self) -> models.QuerySet[WithAnnotations[Action, SoFar]]:
        """With `SoFar`."""
        return self.annotate(  # type: ignore[return-value]  # a TypedDict of another name
            steps_so_far=Count("steps", distinct=True)
        )

    def of_request(self, request_id: str) -> Self:
        return self.filter(request_id=request_id)

    def settled_by(self, resource_type: str, resource_id: int, generation: int) -> Self:
        """Those that an observation of this generation may end or tell something about."""
        return self.of(resource_type, resource_id).filter(
            Q(status="running") | Q(generation=generation)
        )

    def about(self, resource_type: str) -> Self:
        """Actions of any object of this kind."""
        return self.filter(resources__type=resource_type).distinct()

    def of(self, resource_type: str, resource_id: int) -> Self:
        return self.filter(resources__type=resource_type, resources__resource_id=resource_id)


class ActionStepQuerySet(models.QuerySet["ActionStep"]):
    def of_request(self, request_id: str) -> Self:
        return self.filter(action__request_id=request_id)

    def waiting(self) -> Self:
        """Messages of open Actions whose host has not said that it got them."""
        return self.filter(name="queued", finished=None, action__status="running")

    def about(self, resource_type: str, ids: Iterable[int]) -> Self:
        return self.filter(
            action__resources__type=resource_type, action__resources__resource_id__in=list(ids)
        )


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def usable(self) -> Self:
        return self.filter(revoked_at=None).select_related("project")

    def due_for_touch(self, now: datetime) -> Self:
        """Tokens whose `last_used` is worth writing: once a minute is precise enough."""
        return self.filter(Q(last_used=None) | Q(last_used__lt=now - timedelta(minutes=1)))
