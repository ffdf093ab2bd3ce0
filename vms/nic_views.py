"""API view of the network interfaces on a host; for operators, beside the contract."""

from __future__ import annotations

from django.db import models
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.permissions import InProject, IsOperator
from cloud.api.views import Collection
from cloud.errors import NotFound
from cloud.models import Host
from networks.models import Network
from vms.interfaces import PRIVATE_MODE, USER_NIC
from vms.models import Nic


class NicServerSerializer(serializers.Serializer[Nic]):
    id = serializers.IntegerField(source="vm_id")
    name = serializers.CharField(source="vm.name")


class NicSerializer(serializers.Serializer[Nic]):
    """What is wanted of an interface, and what its host saw there."""

    id = serializers.IntegerField()
    index = serializers.IntegerField()
    mac = serializers.CharField()
    server = NicServerSerializer(source="*")
    mode = serializers.ChoiceField(
        [*Network.Mode.values, PRIVATE_MODE, USER_NIC],
        allow_null=True,
        help_text="Null: not connected.",
    )
    forwarded_ports = serializers.ListField(
        child=serializers.CharField(), help_text="Ports of the host that lead to it."
    )
    addresses = serializers.ListField(child=serializers.CharField(), source="lent")
    learned = serializers.ListField(
        child=serializers.CharField(), help_text="Addresses that the guest got elsewhere."
    )
    dropped = serializers.DictField(
        child=serializers.IntegerField(), help_text="Frames by the reason they were dropped for."
    )


class HostNics(Collection[Nic]):
    """Network interfaces of the servers on a host."""

    singular, plural = "nic", "nics"
    queryset = Nic.objects.all()
    serializer_class = NicSerializer
    permission_classes = [InProject, IsOperator]

    def list(self, request: Request, owner: int) -> Response:  # type: ignore[override]
        if not Host.objects.filter(pk=owner).exists():
            raise NotFound(f"host with ID '{owner}' not found")
        return super().list(request)

    def get_queryset(self) -> models.QuerySet[Nic]:
        nics = Nic.objects.filter(vm__host=self.kwargs["owner"]).select_related("vm")
        return nics.prefetch_related("floating", "addresses", "forwards").order_by("vm", "index")
