"""Serializer fields that follow rules of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.labels import check_labels

ModelT = TypeVar("ModelT", bound=Model)
_MOST_LISTED = 12


class RequestSerializer(serializers.Serializer[Any]):
    """A request body: an explicit null means that the key was omitted."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            data = {key: value for key, value in data.items() if value is not None}
        return super().to_internal_value(data)


class Text(serializers.CharField):
    """A string as it was sent: nothing is trimmed, and a number is no string."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


@extend_schema_field({"type": "object", "additionalProperties": {"type": "string"}})
class Labels(serializers.Field[dict[str, str], Any, dict[str, str], Any]):
    """A whole map of labels; raises InvalidInput."""

    def to_internal_value(self, data: Any) -> dict[str, str]:
        return check_labels(data)

    def to_representation(self, value: dict[str, str]) -> dict[str, str]:
        return value


@extend_schema_field({"oneOf": [{"type": "integer"}, {"type": "string"}]})
class Reference(serializers.Field[int | str, Any, Any, Any]):
    """Names an object by its id, its id as a string, or its name; see `find`."""

    def to_internal_value(self, data: Any) -> int | str:
        if isinstance(data, bool) or not isinstance(data, int | str) or data == "":
            raise serializers.ValidationError("must be an id or a name")
        return data


class Id(serializers.IntegerField):
    """Names an object by its id alone; clients count to 2^53."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=2**53 - 1, **kwargs)


@extend_schema_field({"type": "array", "items": {}, "maxItems": 0})
class NotYet(serializers.Field[None, Any, None, Any]):
    """A list or object of the contract that may be sent, but only empty."""

    def to_internal_value(self, data: Any) -> None:
        if data:
            raise serializers.ValidationError("is not offered yet: leave it out")

    def to_representation(self, value: None) -> None:
        return value


class Constant(serializers.Field[Any, Any, Any, Any]):
    """A key of answers with the same value for every object of this cloud."""

    def __init__(self, value: Any, **kwargs: Any) -> None:
        super().__init__(read_only=True, **kwargs)
        self.value = value

    def get_attribute(self, instance: Any) -> Any:
        return self.value

    def to_representation(self, value: Any) -> Any:
        return value


def is_id(text: str) -> bool:
    """Whether the text is a number that an id can be; clients count to 2^53."""
    return text.isascii() and text.isdigit() and len(text) <= 15


def find(
    queryset: QuerySet[ModelT], reference: int | str, field: str, *, listed: bool = False
) -> ModelT:
    """The object by id if the reference is a number, else by name.

    Raises ValidationError for the request's `field`; `listed`: it says which there are, if few.
    """
    text = str(reference)
    found = None
    if is_id(text):
        found = queryset.filter(pk=int(text)).first()
    # A name that cannot be printed cannot be stored either.
    if found is None and isinstance(reference, str) and text.isprintable():
        found = queryset.filter(name=text).first()
    if found is None:
        choice = _few_names(queryset) if listed else ""
        raise serializers.ValidationError({field: f"{reference!r} not found{choice}"})
    return found


def _few_names(queryset: QuerySet[Any]) -> str:
    names = list(queryset.values_list("name", flat=True)[: _MOST_LISTED + 1])
    return f": choose one of {', '.join(names)}" if 0 < len(names) <= _MOST_LISTED else ""
