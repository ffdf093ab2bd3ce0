"""Bodies of write requests about private networks and servers in them.

What a value means is decided by the functions that views call; here only its form is.
"""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from cloud.api.fields import Labels, Reference, RequestSerializer, Text, find
from networks.models import PrivateNetwork
from vms.private.actions import NetworkOrder, RouteOrder, SubnetOrder
from vms.private.membership import Seat


class SubnetRequest(RequestSerializer):
    """A subnet, as a `SubnetOrder`."""

    type = serializers.ChoiceField(["cloud", "server", "vswitch"])
    network_zone = Text()
    ip_range = Text(required=False, help_text="Omitted: the first /24 that is free.")
    vswitch_id = serializers.IntegerField(required=False)

    def validate(self, attrs: dict[str, Any]) -> Any:
        attrs.pop("vswitch_id", None)
        return SubnetOrder(**attrs)


class RouteRequest(RequestSerializer):
    """A route, as a `RouteOrder`."""

    destination = Text()
    gateway = Text()

    def validate(self, attrs: dict[str, Any]) -> Any:
        return RouteOrder(**attrs)


class NetworkCreateRequest(RequestSerializer):
    """A network to make, as an `order`. `egress` is beside the contract."""

    name = Text()
    ip_range = Text()
    subnets = SubnetRequest(many=True, default=list)
    routes = RouteRequest(many=True, default=list)
    labels = Labels(default=dict)
    expose_routes_to_vswitch = serializers.BooleanField(default=False)
    egress = serializers.BooleanField(
        default=False, help_text="Servers without a public address reach the world (source NAT)."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {"order": NetworkOrder(**attrs)}


class NetworkUpdateRequest(RequestSerializer):
    """A change; keys that are not sent stay as they are."""

    name = Text(required=False)
    labels = Labels(required=False)
    expose_routes_to_vswitch = serializers.BooleanField(required=False)
    egress = serializers.BooleanField(required=False)


class AddSubnetRequest(SubnetRequest):
    def validate(self, attrs: dict[str, Any]) -> Any:
        return {"order": super().validate(attrs)}


class ChangeRouteRequest(RouteRequest):
    def validate(self, attrs: dict[str, Any]) -> Any:
        return {"order": super().validate(attrs)}


class RangeRequest(RequestSerializer):
    ip_range = Text()


class ProtectNetworkRequest(RequestSerializer):
    delete = serializers.BooleanField(default=False)


class MembershipRequest(RequestSerializer):
    """The network of the project that a server is to leave, or be changed in."""

    network = Reference()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        own = PrivateNetwork.objects.existing().filter(project=self.context["project"])
        return {**attrs, "network": find(own, attrs["network"], "network")}


class AttachRequest(MembershipRequest):
    """The network that a server is to join, and its `seat` there."""

    ip = Text(required=False)
    ip_range = Text(required=False, help_text="A subnet, from which the address is to be.")
    alias_ips = serializers.ListField(child=Text(), default=list, max_length=100)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        found = super().validate(attrs)
        return {"network": found.pop("network"), "seat": Seat(**found)}


class AliasIpsRequest(MembershipRequest):
    alias_ips = serializers.ListField(child=Text(), max_length=100)
