"""API view of drift; for operators, beside the contract."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import django_filters
from django.db.models import QuerySet
from django.utils import timezone
from rest_framework import serializers

from cloud.api.filters import AnyOf, Exact
from cloud.api.permissions import InProject, IsOperator
from cloud.api.views import Collection
from cloud.drift import EXTRA, MISSING, Drift
from vms.drift.spec import Kind
from vms.drift.treatment import Verb

_STATES = ("standing", "quarantined", "kept", "closed")


class DriftHostSerializer(serializers.Serializer[Drift]):
    id = serializers.IntegerField(source="host_id")
    name = serializers.CharField(source="host.name")


class DriftSerializer(serializers.Serializer[Drift]):
    """A difference between the inventory and a host."""

    id = serializers.IntegerField()
    host = DriftHostSerializer(source="*")
    kind = serializers.ChoiceField([str(kind) for kind in Kind])
    name = serializers.CharField(help_text="Of the thing, on its host.")
    direction = serializers.ChoiceField(
        [MISSING, EXTRA], help_text="missing: on the host; extra: it is not in the inventory."
    )
    detail = serializers.CharField(help_text="What of it is not as it should be.")
    server_id = serializers.IntegerField(allow_null=True, help_text="Whose it is by its name.")
    network_id = serializers.IntegerField(allow_null=True)
    repair = serializers.ChoiceField(
        [str(verb) for verb in Verb], source="verb", help_text="What a repair would do."
    )
    reason = serializers.CharField(help_text="Why that, and not more.")
    first_seen = serializers.DateTimeField()
    last_seen = serializers.DateTimeField()
    confirmed = serializers.BooleanField(
        help_text="Seen again after a while: no work under way explains it."
    )
    age = serializers.SerializerMethodField(help_text="Seconds since it was seen first.")
    kept = serializers.DateTimeField(
        source="kept_at", allow_null=True, help_text="An operator knows it since then."
    )
    closed = serializers.DateTimeField(
        source="closed_at", allow_null=True, help_text="It vanished then."
    )

    def get_age(self, row: Drift) -> float:
        until = row.closed_at or timezone.now()
        return round((until - row.first_seen).total_seconds(), 3)


class DriftFilter(django_filters.FilterSet):
    """Without `state` those that stand; `older_than` in seconds."""

    host = Exact(field_name="host__name")
    kind = AnyOf(values=[str(kind) for kind in Kind])
    direction = AnyOf(values=[MISSING, EXTRA])
    state = django_filters.ChoiceFilter(
        method="in_state", choices=[(state, state) for state in _STATES]
    )
    older_than = django_filters.NumberFilter(method="aged", min_value=0, max_value=10**9)

    def in_state(self, rows: Any, name: str, value: str) -> Any:
        return rows.in_state(value)

    def aged(self, rows: Any, name: str, value: Any) -> Any:
        return rows.older_than(timezone.now() - timedelta(seconds=float(value)))

    def filter_queryset(self, queryset: Any) -> Any:
        found = super().filter_queryset(queryset)
        return found if self.form.cleaned_data.get("state") else found.standing()


class Differences(Collection[Drift]):
    """What hosts have too many or too few of; for operators."""

    singular, plural = "difference", "drift"
    queryset = Drift.objects.all()
    serializer_class = DriftSerializer
    filterset_class = DriftFilter
    permission_classes = [InProject, IsOperator]
    sort_keys = ("host", "kind", "first_seen", "last_seen")
    sort_columns = {"host": "host__name"}

    def get_queryset(self) -> QuerySet[Drift]:
        return Drift.objects.select_related("host").order_by("pk")
