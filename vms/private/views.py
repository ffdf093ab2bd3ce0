"""API views of private networks, and of what servers do with them."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.filters import AnyOf, LabelledFilter
from cloud.api.idempotency import once
from cloud.api.schema import wrapped
from cloud.api.views import Collection
from cloud.errors import NotFound
from cloud.models import Action
from cloud.serializers import ActionSerializer
from cloud.views import ResourceActions
from networks.models import PrivateNetwork
from networks.private.layout import parse_network
from vms.models import Nic
from vms.private.actions import (
    add_route,
    add_subnet,
    change_ip_range,
    change_network_protection,
    create_network,
    delete_network,
    delete_route,
    delete_subnet,
    update_network,
)
from vms.private.members import MemberStatus, members_of
from vms.private.requests import (
    AddSubnetRequest,
    ChangeRouteRequest,
    NetworkCreateRequest,
    NetworkUpdateRequest,
    ProtectNetworkRequest,
    RangeRequest,
)
from vms.private.serializers import MemberSerializer, NetworkSerializer

ACTION = wrapped("action", ActionSerializer)


class Networks(Collection[PrivateNetwork]):
    """Networks of a project's own, which servers on all hosts share."""

    singular, plural = "network", "networks"
    queryset = PrivateNetwork.objects.all()
    serializer_class = NetworkSerializer
    requests = {
        "create": NetworkCreateRequest,
        "update": NetworkUpdateRequest,
        "add_subnet": AddSubnetRequest,
        "delete_subnet": RangeRequest,
        "add_route": ChangeRouteRequest,
        "delete_route": ChangeRouteRequest,
        "change_ip_range": RangeRequest,
        "change_protection": ProtectNetworkRequest,
    }
    filterset_class = LabelledFilter
    sort_keys = ("name", "created")

    def get_queryset(self) -> QuerySet[PrivateNetwork]:
        own = PrivateNetwork.objects.existing().filter(project=self.project)
        return own.with_parts()

    @once
    def create(self, request: Request) -> Response:
        """Make a network, with subnets and routes."""
        network = create_network(self.project, **self.body())
        return Response({self.singular: self.show(self.find(network.pk))}, 201)

    @once
    def update(self, request: Request, pk: int) -> Response:
        """Rename or relabel; switch source NAT or the exposure of routes."""
        update_network(self.find(pk), **self.body())
        return self.retrieve(request, pk)

    @once
    def destroy(self, request: Request, pk: int) -> Response:
        """Delete; servers in it are detached."""
        delete_network(self.find(pk))
        return Response(status=204)

    @extend_schema(responses={201: ACTION})
    @once
    def add_subnet(self, request: Request, pk: int) -> Response:
        """Add a subnet, from which servers get addresses."""
        return self._begun(add_subnet(self.find(pk), **self.body()))

    @extend_schema(responses={201: ACTION})
    @once
    def delete_subnet(self, request: Request, pk: int) -> Response:
        """Remove a subnet in which no server has an address."""
        return self._begun(delete_subnet(self.find(pk), **self.body()))

    @extend_schema(responses={201: ACTION})
    @once
    def add_route(self, request: Request, pk: int) -> Response:
        """Send what is for the destination on to the server at the gateway."""
        return self._begun(add_route(self.find(pk), **self.body()))

    @extend_schema(responses={201: ACTION})
    @once
    def delete_route(self, request: Request, pk: int) -> Response:
        """Remove a route."""
        return self._begun(delete_route(self.find(pk), **self.body()))

    @extend_schema(responses={201: ACTION})
    @once
    def change_ip_range(self, request: Request, pk: int) -> Response:
        """Widen the network; it starts where it did."""
        return self._begun(change_ip_range(self.find(pk), **self.body()))

    @extend_schema(responses={201: ACTION})
    @once
    def change_protection(self, request: Request, pk: int) -> Response:
        """Protect from deletion."""
        return self._begun(change_network_protection(self.find(pk), **self.body()))

    def _begun(self, action: Action) -> Response:
        return Response({"action": ActionSerializer(action).data}, 201)


class NetworkActions(ResourceActions):
    """A network to which nothing was ever done exists, although no action tells of it."""

    resource = "network"

    def owner_exists(self, pk: int) -> bool:
        own = PrivateNetwork.objects.existing().filter(project=self.project, pk=pk)
        return own.exists() or super().owner_exists(pk)


class MemberFilter(django_filters.FilterSet):
    type = AnyOf(values=["server", "load_balancer"])
    status = AnyOf(values=[status.value for status in MemberStatus])
    subnet = django_filters.CharFilter(method="in_subnet")

    def in_subnet(self, queryset: Any, name: str, value: str) -> Any:
        subnet = str(parse_network(value, "subnet"))
        inside = {"addresses__alias": False, "addresses__ip__net_contained_or_equal": subnet}
        return queryset.filter(**inside)


class Members(Collection[Nic]):
    """Which servers are in a network, and what is happening to them."""

    singular, plural = "member", "members"
    queryset = Nic.objects.all()
    serializer_class = MemberSerializer
    filterset_class = MemberFilter
    sort_keys = ("type", "status", "ip")
    sort_columns = {"id": "vm"}

    def get_queryset(self) -> QuerySet[Nic]:
        own = PrivateNetwork.objects.existing().filter(project=self.project)
        network = own.filter(pk=self.kwargs["owner"]).first()
        if network is None:
            raise NotFound(f"network with ID '{self.kwargs['owner']}' not found")
        return members_of(network)
