"""The API as an OpenAPI document: what drf-spectacular cannot see in the code by itself."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import build_basic_type
from drf_spectacular.utils import OpenApiParameter, extend_schema_serializer
from rest_framework import serializers

from cloud.api.idempotency import HEADER
from cloud.api.views import Collection

IDEMPOTENCY_KEY = OpenApiParameter(
    HEADER,
    location=OpenApiParameter.HEADER,
    description="A repeated request with the same key and body gets the first answer.",
)

SerializerClass = type[serializers.BaseSerializer[Any]]


class ErrorBodySerializer(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="Never changes; match on it.")
    message = serializers.CharField(help_text="For people.")
    details = serializers.DictField(allow_null=True)


class ErrorSerializer(serializers.Serializer[Any]):
    error = ErrorBodySerializer()


class PaginationSerializer(serializers.Serializer[Any]):
    page = serializers.IntegerField()
    per_page = serializers.IntegerField()
    previous_page = serializers.IntegerField(allow_null=True)
    next_page = serializers.IntegerField(allow_null=True)
    last_page = serializers.IntegerField()
    total_entries = serializers.IntegerField()


class MetaSerializer(serializers.Serializer[Any]):
    pagination = PaginationSerializer()


_answers: dict[str, SerializerClass] = {}


def wrapped(key: str, shown: SerializerClass) -> SerializerClass:
    """The class of an answer that holds one object under its key."""
    return _answer(key, {key: shown()})


def page_of(key: str, shown: SerializerClass, *, always: bool = True) -> SerializerClass:
    """The class of an answer that holds one page of objects, or not `always` just a page."""
    return _answer(key, {key: shown(many=True), "meta": MetaSerializer(required=always)})


def _answer(key: str, fields: dict[str, Any]) -> SerializerClass:
    """One class for each key, because the document names it once."""
    if key not in _answers:
        name = f"{key.title().replace('_', '')}AnswerSerializer"
        answer: SerializerClass = type(name, (serializers.Serializer,), fields)
        _answers[key] = extend_schema_serializer(many=False)(answer)
    return _answers[key]


class ContractSchema(AutoSchema):
    """Wraps answers as `Collection` does, and adds the error body to every operation."""

    view: Any

    def get_tags(self) -> list[str]:
        return [self._words()[0]]

    def get_operation_id(self) -> str:
        verb = getattr(self.view, "action", None) or self.method.lower()
        command = getattr(self.view, "command", None)
        return "_".join(dict.fromkeys([*self._words(), *([] if command else [verb])]))

    def get_override_parameters(self) -> Any:
        return [] if self.method == "GET" else [IDEMPOTENCY_KEY]

    def get_response_serializers(self) -> Any:
        if not isinstance(self.view, Collection):
            return super().get_response_serializers()
        shown: SerializerClass = self.view.serializer_class
        match self.view.action:
            case "list":
                return {200: page_of(self.view.plural, shown, always=self.view.always_paged)}
            case "create":
                return {201: wrapped(self.view.singular, shown)}
            case "destroy":
                return {204: None}
            case _:
                return {200: wrapped(self.view.singular, shown)}

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        bodies = super()._get_response_bodies(direction)
        return {**bodies, "default": self._get_response_for_code(ErrorSerializer, "default")}

    def _words(self) -> list[str]:
        """The path without its prefix, ids as `by_...`."""
        parts = self.path.strip("/").split("/")[1:]
        return [f"by_{part[1:-1]}" if part.startswith("{") else part for part in parts]


class BearerTokenScheme(OpenApiAuthenticationExtension):
    target_class = "cloud.api.authentication.BearerToken"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer"}


class StaffSessionScheme(OpenApiAuthenticationExtension):
    target_class = "cloud.api.authentication.StaffSession"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


class ConstantField(OpenApiSerializerFieldExtension):
    target_class = "cloud.api.fields.Constant"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> Any:
        value = self.target.value
        if value is None:
            return {"nullable": True}
        if isinstance(value, list):
            return {"type": "array", "items": {}}
        if isinstance(value, dict):
            return {"type": "object", "additionalProperties": {}}
        return build_basic_type(type(value))
