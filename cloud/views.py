"""API views of what servers and networks share: actions, locations, hosts, the audit trail."""

from __future__ import annotations

import time
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.errors import BadJson, ServerError, body_of
from cloud.api.fields import is_id
from cloud.api.filters import ActionFilter, AuditFilter, NameFilter
from cloud.api.permissions import InProject, IsOperator
from cloud.api.schema import wrapped
from cloud.api.throttling import untouched
from cloud.api.views import Collection
from cloud.buckets import headers
from cloud.errors import CumuletError, NotFound
from cloud.models import Action, AuditEntry, Host, Location
from cloud.querysets import ActionQuerySet
from cloud.serializers import (
    ActionSerializer,
    AuditEntrySerializer,
    HostSerializer,
    LocationSerializer,
    TimelineSerializer,
)
from cloud.timeline import timeline_of

IDS = OpenApiParameter(
    "id", {"type": "array", "items": {"type": "integer"}}, description="All of these, unpaged."
)


class Actions(Collection[Action]):
    """What users asked for, and how far it is."""

    singular, plural = "action", "actions"
    queryset = Action.objects.all()
    serializer_class = ActionSerializer
    filterset_class = ActionFilter
    sort_keys = ("command", "status", "started", "finished")
    always_paged = False

    def get_queryset(self) -> ActionQuerySet:
        return Action.objects.prefetch_related("resources").filter(project=self.project)

    @extend_schema(parameters=[IDS])
    def list(self, request: Request, **kwargs: Any) -> Response:
        ids = request.query_params.getlist("id")
        if not ids:
            return super().list(request, **kwargs)
        known = [int(text) for text in ids if is_id(text)]
        found = self.filter_queryset(self.get_queryset().filter(pk__in=known))
        return Response({self.plural: [self.show(action) for action in found]})

    @extend_schema(responses={200: wrapped("timeline", TimelineSerializer)})
    def timeline(self, request: Request, pk: int) -> Response:
        """What happened, where, and how long it took."""
        return Response({"timeline": TimelineSerializer(timeline_of(self.find(pk))).data})


class ResourceActions(Actions):
    """Actions of one kind of resource, or of one object, also after its end."""

    resource: str = ""

    def get_queryset(self) -> ActionQuerySet:
        actions = super().get_queryset()
        owner = self.kwargs.get("owner")
        return actions.about(self.resource) if owner is None else actions.of(self.resource, owner)

    def list(self, request: Request, **kwargs: Any) -> Response:
        if "owner" in kwargs and not self.owner_exists(kwargs["owner"]):
            raise NotFound(f"{self.resource} with ID '{kwargs['owner']}' not found")
        return super().list(request, **kwargs)

    def owner_exists(self, pk: int) -> bool:
        """Whatever is made by an action had one if it ever existed."""
        return self.get_queryset().exists()


class Locations(Collection[Location]):
    """Places with hosts."""

    singular, plural = "location", "locations"
    queryset = Location.objects.order_by("pk")
    serializer_class = LocationSerializer
    filterset_class = NameFilter
    sort_keys = ("name",)


class Hosts(Collection[Host]):
    """Machines that run servers; for operators."""

    singular, plural = "host", "hosts"
    queryset = Host.objects.with_use().select_related("location")
    serializer_class = HostSerializer
    filterset_class = NameFilter
    permission_classes = [InProject, IsOperator]
    sort_keys = ("name", "last_heartbeat", "created")


class AuditEntries(Collection[AuditEntry]):
    """Who did what, to what, and what it was before; newest first, for operators."""

    singular, plural = "audit_entry", "audit"
    queryset = AuditEntry.objects.all()
    serializer_class = AuditEntrySerializer
    filterset_class = AuditFilter
    permission_classes = [InProject, IsOperator]
    sort_keys = ("at", "verb")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400: what was refused before a view was found."""
    if not _in_api(request):
        return defaults.bad_request(request, exception)
    return _answer(BadJson(f"request refused: {type(exception).__name__}"))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500: what went wrong outside of every view."""
    return _answer(ServerError()) if _in_api(request) else defaults.server_error(request)


def _in_api(request: HttpRequest) -> bool:
    return request.path.startswith("/v1/")


def _answer(error: CumuletError) -> JsonResponse:
    rate = headers(untouched(), time.time())
    return JsonResponse(body_of(error), status=error.status, headers=rate)
