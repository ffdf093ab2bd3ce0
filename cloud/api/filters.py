"""Which objects a list shows, and in which order.

Filters that the contract knows are declared per resource; unknown query parameters are ignored,
because clients send some of them to every list.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import django_filters
from django import forms
from django.db.models import QuerySet
from rest_framework.filters import BaseFilterBackend
from rest_framework.request import Request
from rest_framework.views import APIView

from cloud.errors import invalid
from cloud.models import Action


class Exact(django_filters.CharFilter):
    """`name=web` exactly, spaces included. No hit is an empty list."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, strip=False, **kwargs)


class _KnownChoices(forms.MultipleChoiceField):
    """Drops what is no choice: a client is known to send nonsense here."""

    def to_python(self, value: object) -> list[str]:
        return [choice for choice in super().to_python(value) if self.valid_value(choice)]


class AnyOf(django_filters.MultipleChoiceFilter):
    """`status=off&status=running`: objects with one of these values."""

    field_class = _KnownChoices

    def __init__(self, *args: Any, values: list[str], **kwargs: Any) -> None:
        choices = [(value, value) for value in values]
        super().__init__(*args, choices=choices, **kwargs)


class _UtcField(django_filters.fields.IsoDateTimeField):
    """PostgreSQL takes fewer offsets than Python, and the ends of time have none."""

    def clean(self, value: object) -> datetime | None:
        moment: datetime | None = super().clean(value)
        try:
            return moment.astimezone(UTC) if moment else None
        except OverflowError as error:
            raise forms.ValidationError("name a moment between the years 1 and 9999") from error


class Moment(django_filters.IsoDateTimeFilter):
    """A moment in ISO 8601."""

    field_class = _UtcField


class LabelSelector(django_filters.CharFilter):
    """`label_selector=env=prod,!old` on a LabelledQuerySet."""

    def filter(self, qs: Any, value: str) -> Any:
        return qs.matching(value) if value else qs


class NameFilter(django_filters.FilterSet):
    """The filter that every resource has."""

    name = Exact()


class LabelledFilter(NameFilter):
    label_selector = LabelSelector()


class ActionFilter(django_filters.FilterSet):
    status = AnyOf(values=Action.Status.values)


class AuditFilter(django_filters.FilterSet):
    """All of them exactly, so that a mistyped verb finds nothing rather than everything.

    `actor` is a name as entries show it; `since` is included in the answer, `until` is not.
    """

    request_id = Exact()
    actor = Exact(field_name="actor_name")
    actor_type = Exact(field_name="actor_kind")
    actor_id = django_filters.NumberFilter()
    verb = Exact()
    resource_type = Exact()
    resource_id = django_filters.NumberFilter()
    since = Moment(field_name="at", lookup_expr="gte")
    until = Moment(field_name="at", lookup_expr="lt")


class Sort(BaseFilterBackend):
    """`sort=name`, `sort=name:desc`, repeatable; `id` is a key everywhere."""

    def filter_queryset(
        self, request: Request, queryset: QuerySet[Any], view: APIView
    ) -> QuerySet[Any]:
        terms = request.query_params.getlist("sort")
        if not terms:
            return queryset
        keys = _keys(view)
        columns = getattr(view, "sort_columns", {})
        order = []
        for term in terms:
            key, _, direction = term.partition(":")
            if key not in keys or direction not in ("", "asc", "desc"):
                raise invalid("sort", f"{term!r} is not one of {', '.join(keys)} [:asc|:desc]")
            column = columns.get(key, key)
            order.append(f"-{column}" if direction == "desc" else column)
        return queryset.order_by(*order, "pk")

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        choices = [key + order for key in _keys(view) for order in ("", ":asc", ":desc")]
        items = {"type": "string", "enum": choices}
        return [{"name": "sort", "in": "query", "schema": {"type": "array", "items": items}}]


def _keys(view: APIView) -> tuple[str, ...]:
    return ("id", *getattr(view, "sort_keys", ()))
