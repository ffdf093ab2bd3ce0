"""Bodies of write requests about primary and floating IPs; see `vms.requests`."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from cloud.api.fields import Labels, Reference, RequestSerializer, Text, find
from cloud.models import Location
from networks.models import IpType
from networks.public_ips import IpOrder
from vms.models import VM
from vms.requests import location_of


class ProtectIpRequest(RequestSerializer):
    delete = serializers.BooleanField(default=False)


class DnsPtrRequest(RequestSerializer):
    ip = Text()
    dns_ptr = Text(required=False, help_text="Null: the default for IPv4, no name for IPv6.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {"address": attrs["ip"], "name": attrs.get("dns_ptr")}


class AssigneeRequest(RequestSerializer):
    """Which server gets a primary IP; old clients name its type even where there is none."""

    assignee_id = Reference()
    assignee_type = serializers.ChoiceField(["server"], required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {"vm": _server(self, attrs["assignee_id"], "assignee_id")}


class ServerRequest(RequestSerializer):
    """Which server gets a floating IP."""

    server = Reference()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {"vm": _server(self, attrs["server"], "server")}


class PrimaryIpCreateRequest(RequestSerializer):
    """A primary IP to lend, in a location or for a server."""

    name = Text()
    type = serializers.ChoiceField(IpType.choices)
    location = Reference(required=False)
    datacenter = Reference(required=False, help_text="Old name of the location's datacenter.")
    assignee_id = Reference(required=False)
    assignee_type = serializers.ChoiceField(["server", "unassigned"], required=False)
    auto_delete = serializers.BooleanField(default=False)
    labels = Labels(default=dict)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """All of it as an `order`, and the server as `vm`."""
        vm = None
        if attrs.get("assignee_id"):
            vm = _server(self, attrs["assignee_id"], "assignee_id")
        order = IpOrder(
            IpType(attrs["type"]),
            _place(location_of(attrs), vm, "location"),
            name=attrs["name"],
            labels=attrs["labels"],
            auto_delete=attrs["auto_delete"],
        )
        return {"order": order, "vm": vm}


class PrimaryIpUpdateRequest(RequestSerializer):
    name = Text(required=False)
    labels = Labels(required=False)
    auto_delete = serializers.BooleanField(required=False)


class FloatingIpCreateRequest(RequestSerializer):
    """A floating IP to lend, in a location or for a server."""

    type = serializers.ChoiceField(IpType.choices)
    home_location = Reference(required=False)
    server = Reference(required=False)
    name = Text(required=False, allow_blank=True)
    description = Text(default="", allow_blank=True)
    labels = Labels(default=dict)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """All of it as an `order`, and the server as `vm`."""
        vm = _server(self, attrs["server"], "server") if attrs.get("server") else None
        home = attrs.get("home_location")
        location = find(Location.objects.all(), home, "home_location") if home else None
        order = IpOrder(
            IpType(attrs["type"]),
            _place(location, vm, "home_location"),
            name=attrs.get("name") or None,
            labels=attrs["labels"],
            description=attrs["description"],
        )
        return {"order": order, "vm": vm}


class FloatingIpUpdateRequest(RequestSerializer):
    name = Text(required=False)
    description = Text(required=False, allow_blank=True)
    labels = Labels(required=False)


def _server(request: RequestSerializer, reference: int | str, field: str) -> VM:
    servers = VM.objects.select_related("host__location").order_by("deleting", "pk")
    return find(servers.filter(project=request.context["project"]), reference, field)


def _place(location: Location | None, vm: VM | None, field: str) -> Location:
    """The location that was named, or that of the server."""
    if location is not None:
        return location
    if vm is not None:
        return vm.host.location
    raise serializers.ValidationError({field: "is required where no server is given"})
