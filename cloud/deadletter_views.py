"""Dead letters over the API, for operators: which messages nobody could take, and why."""

from __future__ import annotations

from typing import Any

import django_filters
from rest_framework import serializers

from cloud.api.filters import Exact, Moment
from cloud.api.permissions import InProject, IsOperator
from cloud.api.views import Collection
from cloud.models import DeadLetter


class DeadLetterResourceSerializer(serializers.Serializer[DeadLetter]):
    type = serializers.CharField(source="resource_type")
    id = serializers.IntegerField(source="resource_id")


class DeadLetterSerializer(serializers.Serializer[DeadLetter]):
    id = serializers.IntegerField()
    first = serializers.DateTimeField(source="at")
    last = serializers.DateTimeField(source="last_at")
    times = serializers.IntegerField(help_text="Letters alike are one.")
    queue = serializers.CharField()
    reason = serializers.ChoiceField(DeadLetter.Reason.choices)
    explanation = serializers.CharField()
    deliveries = serializers.IntegerField(help_text="Before it died; 0: not known.")
    task = serializers.CharField(allow_blank=True)
    sender = serializers.CharField(allow_blank=True, help_text="The broker user, if it is known.")
    host = serializers.CharField(allow_blank=True)
    resource = DeadLetterResourceSerializer(
        source="*", allow_null=True, help_text="What it was about, if that is known."
    )
    request_id = serializers.CharField(allow_blank=True)
    bytes = serializers.IntegerField()
    excerpt = serializers.CharField(allow_blank=True, help_text="Of its body, without secrets.")
    actions = serializers.ListField(
        child=serializers.IntegerField(), help_text="Numbers of the Actions that it ended."
    )
    asked_again = serializers.DateTimeField(source="asked_again_at", allow_null=True)

    def to_representation(self, instance: DeadLetter) -> dict[str, Any]:
        shown = super().to_representation(instance)
        if instance.resource_id is None:
            shown["resource"] = None
        return shown


class DeadLetterFilter(django_filters.FilterSet):
    """All of them exactly, as those of the audit trail; times are of the last letter alike."""

    queue = Exact()
    reason = Exact()
    task = Exact()
    host = Exact()
    request_id = Exact()
    resource_type = Exact()
    resource_id = django_filters.NumberFilter()
    since = Moment(field_name="last_at", lookup_expr="gte")
    until = Moment(field_name="last_at", lookup_expr="lt")


class DeadLetters(Collection[DeadLetter]):
    """Messages that nobody could take; the last first, for operators."""

    singular, plural = "dead_letter", "dead_letters"
    queryset = DeadLetter.objects.all()
    serializer_class = DeadLetterSerializer
    filterset_class = DeadLetterFilter
    permission_classes = [InProject, IsOperator]
    sort_keys = ("last", "times", "queue", "reason")
    sort_columns = {"last": "last_at"}
