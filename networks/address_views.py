"""API view of the history of an address; for operators, beside the contract."""

from __future__ import annotations

from datetime import datetime
from ipaddress import ip_address
from typing import Any

from django.db import models
from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.permissions import InProject, IsOperator
from cloud.api.views import Collection
from cloud.errors import invalid
from networks.addressing import IpAddress
from networks.models import Tenure

AT = OpenApiParameter(
    "at", {"type": "string", "format": "date-time"}, description="Only who held it then."
)


class NamedSerializer(serializers.Serializer[Any]):
    """What something was called; it may be gone."""

    id = serializers.IntegerField(allow_null=True)
    name = serializers.CharField()


class HolderSerializer(NamedSerializer):
    type = serializers.CharField(help_text="primary_ip or floating_ip.")


class TenureSerializer(serializers.Serializer[Tenure]):
    """Names are those of the time at which it began."""

    ip = serializers.CharField(source="address")
    since = serializers.DateTimeField()
    until = serializers.DateTimeField(allow_null=True, help_text="Null: it lasts.")
    project = NamedSerializer()
    holder = HolderSerializer()
    server = NamedSerializer(allow_null=True)
    host = serializers.CharField(allow_null=True)

    def to_representation(self, instance: Tenure) -> dict[str, Any]:
        tenure = instance
        server = {"id": tenure.server_id, "name": tenure.server_name}
        shown: Any = {
            "address": tenure.address,
            "since": tenure.since,
            "until": tenure.until,
            "project": {"id": tenure.project_id, "name": tenure.project_name},
            "holder": {
                "type": tenure.holder_type,
                "id": tenure.holder_id,
                "name": tenure.holder_name,
            },
            "server": server if tenure.server_name else None,
            "host": tenure.host_name or None,
        }
        return super().to_representation(shown)


class AddressHistory(Collection[Tenure]):
    """Who held an address when: all of it, or at one moment. The newest comes first."""

    singular, plural = "tenure", "history"
    queryset = Tenure.objects.all()
    serializer_class = TenureSerializer
    permission_classes = [InProject, IsOperator]
    sort_keys = ("since",)

    @extend_schema(parameters=[AT])
    def list(self, request: Request, **kwargs: Any) -> Response:
        return super().list(request, **kwargs)

    def get_queryset(self) -> models.QuerySet[Tenure]:
        tenures = Tenure.objects.of(_address(self.kwargs["ip"])).select_related("address")
        if moment := self.request.query_params.get("at"):
            tenures = tenures.at(_time(moment))
        return tenures.order_by("-since", "-pk")


def _address(text: str) -> IpAddress:
    try:
        return ip_address(text)
    except ValueError as error:
        raise invalid("ip", str(error)) from error


def _time(text: str) -> datetime:
    """RFC 3339; a plus sign that was not escaped arrives as a space."""
    try:
        moment = parse_datetime(text.replace(" ", "+"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise invalid("at", f"{text!r} is not a time with its offset: 2026-11-25T08:00:00Z")
    return moment
