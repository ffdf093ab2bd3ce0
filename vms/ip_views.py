"""API views of primary and floating IPs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import django_filters
from django.db import models
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.filters import LabelledFilter
from cloud.api.idempotency import once
from cloud.api.schema import wrapped
from cloud.models import Action
from cloud.serializers import ActionSerializer
from cloud.views import ResourceActions
from networks.models import FloatingIp, PrimaryIp
from networks.public_ips import (
    IpT,
    change_dns_ptr,
    change_ip_protection,
    delete_ip,
    update_ip,
)
from vms.floating_ips import assign_floating_ip, create_floating_ip, unassign_floating_ip
from vms.ip_requests import (
    AssigneeRequest,
    DnsPtrRequest,
    FloatingIpCreateRequest,
    FloatingIpUpdateRequest,
    PrimaryIpCreateRequest,
    PrimaryIpUpdateRequest,
    ProtectIpRequest,
    ServerRequest,
)
from vms.ip_serializers import (
    CreatedFloatingIpSerializer,
    CreatedPrimaryIpSerializer,
    FloatingIpSerializer,
    PrimaryIpSerializer,
)
from vms.primary_ips import assign_primary_ip, create_primary_ip, unassign_primary_ip
from vms.views import Offering

ACTION = wrapped("action", ActionSerializer)


class PublicIps(Offering[IpT]):
    """What both kinds can do; each says with which functions."""

    sort_keys = ("created",)
    order: ClassVar[Callable[..., Any]]
    lead: ClassVar[Callable[..., Action]]
    lead_away: ClassVar[Callable[..., Action]]

    @once
    def create(self, request: Request) -> Response:
        """Lend an address; with an action if it is assigned at once."""
        ip, action = type(self).order(self.project, **self.body())
        shown = ActionSerializer(action).data if action else None
        return Response({self.singular: self.show(self.find(ip.pk)), "action": shown}, 201)

    @once
    def update(self, request: Request, pk: int) -> Response:
        ip = update_ip(self.find(pk), **self.body())
        return Response({self.singular: self.show(ip)})

    @once
    def destroy(self, request: Request, pk: int) -> Response:
        """Give the address back. It must not be assigned."""
        delete_ip(self.find(pk))
        return Response(status=204)

    @extend_schema(responses={201: ACTION})
    @once
    def assign(self, request: Request, pk: int) -> Response:
        """Give it to a server."""
        return self._begun(type(self).lead(self.find(pk), **self.body()))

    @extend_schema(request=None, responses={201: ACTION})
    @once
    def unassign(self, request: Request, pk: int) -> Response:
        """Take it from its server."""
        return self._begun(type(self).lead_away(self.find(pk)))

    @extend_schema(responses={201: ACTION})
    @once
    def change_dns_ptr(self, request: Request, pk: int) -> Response:
        """Name one of its addresses in reverse. The name is stored, not served."""
        return self._begun(change_dns_ptr(self.find(pk), **self.body()))

    @extend_schema(responses={201: ACTION})
    @once
    def change_protection(self, request: Request, pk: int) -> Response:
        """Protect from deletion."""
        return self._begun(change_ip_protection(self.find(pk), **self.body()))

    def _begun(self, action: Action) -> Response:
        return Response({"action": ActionSerializer(action).data}, 201)


class AddressFilter(LabelledFilter):
    """`ip=203.0.113.7`, or a /64 as it is shown. What is no address is nobody's."""

    ip = django_filters.CharFilter(method="having_ip")

    def having_ip(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.having_ip(value)


@extend_schema_view(create=extend_schema(responses={201: CreatedPrimaryIpSerializer}))
class PrimaryIps(PublicIps[PrimaryIp]):
    """Public addresses of servers, or kept for them."""

    singular, plural = "primary_ip", "primary_ips"
    queryset = PrimaryIp.objects.all()
    serializer_class = PrimaryIpSerializer
    requests = {
        "create": PrimaryIpCreateRequest,
        "update": PrimaryIpUpdateRequest,
        "assign": AssigneeRequest,
        "change_dns_ptr": DnsPtrRequest,
        "change_protection": ProtectIpRequest,
    }
    filterset_class = AddressFilter
    order, lead, lead_away = create_primary_ip, assign_primary_ip, unassign_primary_ip

    def get_queryset(self) -> models.QuerySet[PrimaryIp]:
        return PrimaryIp.objects.with_server().filter(project=self.project)


@extend_schema_view(create=extend_schema(responses={201: CreatedFloatingIpSerializer}))
class FloatingIps(PublicIps[FloatingIp]):
    """Public addresses that move between servers."""

    singular, plural = "floating_ip", "floating_ips"
    queryset = FloatingIp.objects.all()
    serializer_class = FloatingIpSerializer
    requests = {
        "create": FloatingIpCreateRequest,
        "update": FloatingIpUpdateRequest,
        "assign": ServerRequest,
        "change_dns_ptr": DnsPtrRequest,
        "change_protection": ProtectIpRequest,
    }
    filterset_class = LabelledFilter
    order, lead, lead_away = create_floating_ip, assign_floating_ip, unassign_floating_ip

    def get_queryset(self) -> models.QuerySet[FloatingIp]:
        return FloatingIp.objects.with_server().filter(project=self.project)


class IpActions(ResourceActions):
    """An IP that was never assigned exists, although no action tells of it."""

    kind: type[PrimaryIp] | type[FloatingIp] | None = None

    def owner_exists(self, pk: int) -> bool:
        assert self.kind is not None
        own = self.kind._default_manager.filter(project=self.project, pk=pk)
        return own.exists() or super().owner_exists(pk)
