"""How private networks and their members look in answers."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from cloud.api.fields import Constant
from networks.models import PrivateNetwork, Route, Subnet
from vms.models import Nic
from vms.private.members import MemberStatus, subnet_of
from vms.serializers import DeleteProtectionSerializer


class SubnetSerializer(serializers.Serializer[Subnet]):
    type = serializers.ChoiceField(Subnet.Type.choices)
    ip_range = serializers.CharField()
    network_zone = serializers.CharField()
    gateway = serializers.CharField(help_text="The first address of the subnet.")
    vswitch_id = Constant(None)


class RouteSerializer(serializers.Serializer[Route]):
    destination = serializers.CharField()
    gateway = serializers.CharField()


# Shows what `PrivateNetwork.objects.with_parts()` found.
class NetworkSerializer(serializers.Serializer[PrivateNetwork]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    ip_range = serializers.CharField()
    subnets = SubnetSerializer(many=True)
    routes = RouteSerializer(many=True)
    servers = serializers.SerializerMethodField()
    load_balancers = Constant([])
    expose_routes_to_vswitch = serializers.BooleanField()
    egress = serializers.BooleanField(
        help_text="Servers without a public address reach the world; beside the contract."
    )
    protection = DeleteProtectionSerializer(source="*")
    labels = serializers.DictField(child=serializers.CharField())
    created = serializers.DateTimeField()

    def get_servers(self, instance: Any) -> list[int]:
        return sorted(nic.vm_id for nic in instance.nics.all() if not nic.vm.deleting)


# Shows what `members_of()` found.
class MemberSerializer(serializers.Serializer[Nic]):
    """Exactly the keys of the contract: clients take no others here."""

    id = serializers.IntegerField(source="vm_id", help_text="Of the server.")
    type = Constant("server")
    ip = serializers.CharField()
    alias_ips = serializers.ListField(child=serializers.CharField())
    subnet = serializers.SerializerMethodField()
    status = serializers.ChoiceField([status.value for status in MemberStatus])

    def get_subnet(self, instance: Nic) -> str:
        return subnet_of(instance)
