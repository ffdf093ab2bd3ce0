"""How primary and floating IPs look in answers."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.api.fields import Constant
from cloud.serializers import ActionSerializer, LocationSerializer
from networks.models import FloatingIp, IpType, PrimaryIp, PublicIp
from networks.public_ips import dns_names
from vms.serializers import DatacenterSerializer, DeleteProtectionSerializer, DnsPtrSerializer


class PublicIpSerializer(serializers.Serializer[Any]):
    """What both kinds have in common."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    type = serializers.ChoiceField(IpType.choices)
    ip = serializers.CharField(source="address", help_text="An IPv4 address or an IPv6 /64.")
    blocked = Constant(False)
    dns_ptr = serializers.SerializerMethodField()
    labels = serializers.DictField(child=serializers.CharField())
    protection = DeleteProtectionSerializer(source="*")
    created = serializers.DateTimeField()

    @extend_schema_field(DnsPtrSerializer(many=True))
    def get_dns_ptr(self, instance: PublicIp) -> list[dict[str, str]]:
        return dns_names(instance)


class PrimaryIpSerializer(PublicIpSerializer):
    assignee_id = serializers.IntegerField(source="server_id", allow_null=True)
    assignee_type = serializers.SerializerMethodField(help_text="server or unassigned.")
    auto_delete = serializers.BooleanField()
    location = LocationSerializer()
    datacenter = DatacenterSerializer(source="location")

    def get_assignee_type(self, instance: PrimaryIp) -> str:
        return "unassigned" if instance.server_id is None else "server"


class FloatingIpSerializer(PublicIpSerializer):
    description = serializers.CharField()
    server = serializers.IntegerField(source="server_id", allow_null=True)
    home_location = LocationSerializer(source="location")


class CreatedPrimaryIpSerializer(serializers.Serializer[PrimaryIp]):
    primary_ip = PrimaryIpSerializer()
    action = ActionSerializer(allow_null=True)


class CreatedFloatingIpSerializer(serializers.Serializer[FloatingIp]):
    floating_ip = FloatingIpSerializer()
    action = ActionSerializer(allow_null=True)
