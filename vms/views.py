"""API views of servers and of what they are made from."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.errors import Forbidden
from cloud.api.filters import NameFilter
from cloud.api.idempotency import once
from cloud.api.schema import wrapped
from cloud.api.views import Collection, ContractView, ModelT
from cloud.errors import Unsupported
from cloud.models import Action, Location
from cloud.serializers import ActionSerializer
from cloud.views import ResourceActions
from vms.actions import PowerCommand, change_protection, create_vm, delete_vm, power, update_vm
from vms.filters import DatacenterFilter, ImageFilter, ServerFilter, SshKeyFilter
from vms.forwarding import change_forwarded_ports
from vms.ip_requests import DnsPtrRequest
from vms.models import VM, Image, ServerType, SshKey
from vms.primary_ips import change_server_dns_ptr
from vms.private.requests import AliasIpsRequest, AttachRequest, MembershipRequest
from vms.private.servers import attach_to_network, change_alias_ips, detach_from_network
from vms.querysets import offered
from vms.requests import (
    ForwardedPortsRequest,
    ImageUpdateRequest,
    MetricsRequest,
    NameAndLabelsRequest,
    ProtectionRequest,
    ServerCreateRequest,
    SshKeyCreateRequest,
)
from vms.serializers import (
    CreatedServerSerializer,
    DatacenterSerializer,
    ImageSerializer,
    MetricsSerializer,
    Offer,
    PricingSerializer,
    ServerSerializer,
    ServerTypeSerializer,
    SshKeySerializer,
)
from vms.ssh_keys import create_ssh_key, delete_ssh_key, update_ssh_key
from vms.usage import Period, series

ACTION = wrapped("action", ActionSerializer)

# Server actions of the contract that this cloud does not have yet.
ACTIONS_NOT_OFFERED = (
    "add_to_placement_group",
    "attach_iso",
    "change_type",
    "create_image",
    "detach_iso",
    "disable_backup",
    "disable_rescue",
    "enable_backup",
    "enable_rescue",
    "rebuild",
    "remove_from_placement_group",
    "request_console",
    "reset_password",
)


class Offering(Collection[ModelT]):
    """Its answers say what is offered where."""

    def answer_context(self) -> dict[str, Any]:
        return {**super().answer_context(), "offer": Offer()}


class ServerTypes(Offering[ServerType]):
    """Sizes of servers. One that is no longer offered is found by its id only."""

    singular, plural = "server_type", "server_types"
    queryset = ServerType.objects.all()
    serializer_class = ServerTypeSerializer
    filterset_class = NameFilter
    sort_keys = ("name",)

    def listed(self) -> models.QuerySet[ServerType]:
        return ServerType.objects.filter(offered(timezone.now()))


class Datacenters(Offering[Location]):
    """One for each location, for clients of before July 2026."""

    singular, plural = "datacenter", "datacenters"
    queryset = Location.objects.order_by("pk")
    serializer_class = DatacenterSerializer
    filterset_class = DatacenterFilter
    sort_keys = ("name",)

    def list(self, request: Request, **kwargs: Any) -> Response:
        response = super().list(request, **kwargs)
        first = Location.objects.order_by("pk").first()
        response.data["recommendation"] = first.pk if first else None
        return response


class Images(Collection[Image]):
    """Base images. Those of the cloud are for everybody, and nobody's to change."""

    singular, plural = "image", "images"
    queryset = Image.objects.all()
    serializer_class = ImageSerializer
    requests = {"update": ImageUpdateRequest}
    filterset_class = ImageFilter
    sort_keys = ("name", "created")

    def get_queryset(self) -> models.QuerySet[Image]:
        return Image.objects.visible_to(self.project.pk)

    def listed(self) -> models.QuerySet[Image]:
        return Image.objects.visible_to(self.project.pk).filter(offered(timezone.now()))

    @once
    def update(self, request: Request, pk: int) -> Response:
        image = self.find(pk)
        if self.body():
            raise Forbidden(f"image {image} belongs to the cloud: only its operator changes it")
        return Response({self.singular: self.show(image)})

    @extend_schema(responses={204: None})
    @once
    def destroy(self, request: Request, pk: int) -> Response:
        image = self.find(pk)
        raise Forbidden(f"image {image} belongs to the cloud: only snapshots can be deleted")

    @extend_schema(exclude=True)
    @once
    def change_protection(self, request: Request, pk: int) -> Response:
        raise Unsupported(f"image {self.find(pk)} belongs to the cloud: protect snapshots only")


class ImageActions(ResourceActions):
    resource = "image"

    def owner_exists(self, pk: int) -> bool:
        return Image.objects.visible_to(self.project.pk).filter(pk=pk).exists()


class SshKeys(Collection[SshKey]):
    """Public keys that new servers accept."""

    singular, plural = "ssh_key", "ssh_keys"
    queryset = SshKey.objects.all()
    serializer_class = SshKeySerializer
    requests = {"create": SshKeyCreateRequest, "update": NameAndLabelsRequest}
    filterset_class = SshKeyFilter
    sort_keys = ("name",)

    def get_queryset(self) -> models.QuerySet[SshKey]:
        return super().get_queryset().filter(project=self.project).select_related("project")

    @once
    def create(self, request: Request) -> Response:
        body = {"labels": {}, **self.body()}
        return Response({self.singular: self.show(create_ssh_key(self.project, **body))}, 201)

    @once
    def update(self, request: Request, pk: int) -> Response:
        key = update_ssh_key(self.find(pk), **self.body())
        return Response({self.singular: self.show(key)})

    @once
    def destroy(self, request: Request, pk: int) -> Response:
        delete_ssh_key(self.find(pk))
        return Response(status=204)


class Servers(Offering[VM]):
    """Virtual machines."""

    singular, plural = "server", "servers"
    queryset = VM.objects.all()
    serializer_class = ServerSerializer
    requests = {
        "create": ServerCreateRequest,
        "update": NameAndLabelsRequest,
        "change_protection": ProtectionRequest,
        "change_dns_ptr": DnsPtrRequest,
        "attach_to_network": AttachRequest,
        "detach_from_network": MembershipRequest,
        "change_alias_ips": AliasIpsRequest,
        "change_forwarded_ports": ForwardedPortsRequest,
    }
    filterset_class = ServerFilter
    sort_keys = ("name", "created")
    # Given in the table of URLs, for the paths of actions.
    command: PowerCommand | None = None
    what: str = ""

    def get_queryset(self) -> models.QuerySet[VM]:
        return VM.objects.for_api().filter(project=self.project)

    @extend_schema(responses={201: CreatedServerSerializer})
    @once
    def create(self, request: Request) -> Response:
        """Order a server. It exists, with its final address, when this answers."""
        ordered = create_vm(self.project, **self.body())
        answer = {
            "server": self.find(ordered.vm.pk),
            "action": ordered.action,
            "next_actions": ordered.next_actions,
            "root_password": ordered.root_password,
        }
        return Response(CreatedServerSerializer(answer, context=self.answer_context()).data, 201)

    @once
    def update(self, request: Request, pk: int) -> Response:
        """Rename or relabel; the guest keeps its hostname."""
        update_vm(self.find(pk), **self.body())
        return self.retrieve(request, pk)

    @extend_schema(responses={200: ACTION})
    @once
    def destroy(self, request: Request, pk: int) -> Response:
        """Delete, from any state. The action ends when the host has proved that it is gone."""
        return self._begun(delete_vm(self.find(pk)), 200)

    @extend_schema(request=None, responses={201: ACTION})
    @once
    def power(self, request: Request, pk: int) -> Response:
        """Press a power button."""
        assert self.command is not None
        return self._begun(power(self.find(pk), self.command))

    @extend_schema(responses={201: ACTION})
    @once
    def change_protection(self, request: Request, pk: int) -> Response:
        """Protect from deletion and rebuild; both must be equal."""
        vm = self.find(pk)
        wanted = {"delete": vm.delete_protection, "rebuild": vm.rebuild_protection, **self.body()}
        return self._begun(change_protection(vm, **wanted))

    @extend_schema(responses={201: ACTION})
    @once
    def change_dns_ptr(self, request: Request, pk: int) -> Response:
        """Name an address of its primary IPs in reverse. The name is stored, not served."""
        return self._begun(change_server_dns_ptr(self.find(pk), **self.body()))

    @extend_schema(responses={201: ACTION})
    @once
    def attach_to_network(self, request: Request, pk: int) -> Response:
        """Give it an interface in a private network, also while it runs."""
        return self._begun(attach_to_network(self.find(pk), **self.body()))

    @extend_schema(responses={201: ACTION})
    @once
    def detach_from_network(self, request: Request, pk: int) -> Response:
        """Take it out of a private network."""
        return self._begun(detach_from_network(self.find(pk), **self.body()))

    @extend_schema(responses={201: ACTION})
    @once
    def change_alias_ips(self, request: Request, pk: int) -> Response:
        """Replace the further addresses that it answers for in a network."""
        return self._begun(change_alias_ips(self.find(pk), **self.body()))

    @extend_schema(responses={201: ACTION})
    @once
    def change_forwarded_ports(self, request: Request, pk: int) -> Response:
        """Replace the ports of its host, one in user mode, that lead to it; also while it runs."""
        return self._begun(change_forwarded_ports(self.find(pk), **self.body()))

    @extend_schema(exclude=True)
    @once
    def refuse(self, request: Request, pk: int) -> Response:
        raise Unsupported(f"server {self.find(pk)}: this cloud does not offer {self.what} yet")

    @extend_schema(parameters=[MetricsRequest], responses=wrapped("metrics", MetricsSerializer))
    def metrics(self, request: Request, pk: int) -> Response:
        """What the server used over time, as its host measured it."""
        vm = self.find(pk)
        asked = MetricsRequest(data=request.query_params)
        asked.is_valid(raise_exception=True)
        period: Period = asked.validated_data["period"]
        found = series(vm, asked.validated_data["types"], period)
        return Response({"metrics": MetricsSerializer((period, found)).data})

    def _begun(self, action: Action, status: int = 201) -> Response:
        return Response({"action": ActionSerializer(action).data}, status)


class Pricing(ContractView):
    """Everything is free, but clients want to know."""

    @extend_schema(responses={200: wrapped("pricing", PricingSerializer)})
    def get(self, request: Request) -> Response:
        return Response({"pricing": PricingSerializer(ServerType.objects.all()).data})
