"""How servers, server types, images, SSH keys and datacenters look in answers.

Every key of the contract is always there; what this cloud does not have yet is null, empty or
false.
"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Any

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.api.fields import Constant
from cloud.models import Host, Location
from cloud.serializers import ActionSerializer, LocationSerializer
from networks.models import PrimaryIp
from networks.public_ips import dns_names
from vms.firewalls.effective import firewall_states
from vms.interfaces import PUBLIC_INDEX
from vms.lifecycle import Status
from vms.models import VM, ForwardedPort, Image, Nic, ServerType, SshKey
from vms.querysets import NOTICE, offered
from vms.usage import Period, Values

_GIB = 2**30


class Offer:
    """What is offered where: read at most once per answer, however many servers it shows."""

    @cached_property
    def locations(self) -> list[Location]:
        return list(Location.objects.order_by("pk"))

    @cached_property
    def open_locations(self) -> set[int]:
        """Locations in which some host takes new servers."""
        speaking = Host.objects.speaking(timezone.now(), settings.HOST_SILENT_SECONDS)
        return set(speaking.filter(schedulable=True).values_list("location_id", flat=True))

    @cached_property
    def server_types(self) -> list[int]:
        return list(ServerType.objects.filter(offered(timezone.now())).values_list("pk", flat=True))


class DeprecationSerializer(serializers.Serializer[datetime]):
    """Shows the time of the announcement."""

    announced = serializers.DateTimeField()
    unavailable_after = serializers.DateTimeField()

    def to_representation(self, instance: datetime) -> dict[str, Any]:
        times = {"announced": instance, "unavailable_after": instance + NOTICE}
        return super().to_representation(times)  # type: ignore[arg-type]


class TypeLocationSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    deprecation = DeprecationSerializer(allow_null=True)
    available = serializers.BooleanField()
    recommended = serializers.BooleanField()


class ServerTypeSerializer(serializers.Serializer[ServerType]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    description = serializers.CharField()
    category = serializers.SerializerMethodField()
    cores = serializers.IntegerField()
    memory = serializers.SerializerMethodField(help_text="GiB")
    disk = serializers.IntegerField(source="disk_gb", help_text="GiB")
    storage_type = Constant("local")
    cpu_type = serializers.ChoiceField(ServerType.CpuType.choices)
    architecture = serializers.CharField()
    prices = Constant([])
    locations = serializers.SerializerMethodField()
    deprecated = serializers.SerializerMethodField()
    deprecation = DeprecationSerializer(source="deprecated_at", allow_null=True)
    included_traffic = Constant(None)

    def get_category(self, instance: ServerType) -> str:
        return f"{instance.get_cpu_type_display()} vCPU"

    def get_memory(self, instance: ServerType) -> float:
        return instance.memory_mb / 1024

    def get_deprecated(self, instance: ServerType) -> bool:
        return instance.deprecated_at is not None

    @extend_schema_field(TypeLocationSerializer(many=True))
    def get_locations(self, instance: ServerType) -> list[dict[str, Any]]:
        offer: Offer = self.context["offer"]
        return [
            {
                "id": location.pk,
                "name": location.name,
                "deprecation": None,
                "available": location.pk in offer.open_locations,
                "recommended": location.pk in offer.open_locations,
            }
            for location in offer.locations
        ]


class DatacenterTypesSerializer(serializers.Serializer[Any]):
    """Ids of server types."""

    supported = serializers.ListField(child=serializers.IntegerField())
    available = serializers.ListField(child=serializers.IntegerField())
    available_for_migration = serializers.ListField(child=serializers.IntegerField())


class DatacenterSerializer(serializers.Serializer[Location]):
    """Each location has one datacenter, for clients that still ask for it."""

    id = serializers.IntegerField()
    name = serializers.SerializerMethodField()
    description = serializers.CharField()
    location = LocationSerializer(source="*")
    server_types = serializers.SerializerMethodField()

    def get_name(self, instance: Location) -> str:
        return f"{instance.name}-dc1"

    @extend_schema_field(DatacenterTypesSerializer)
    def get_server_types(self, instance: Location) -> dict[str, list[int]]:
        offer: Offer = self.context["offer"]
        available = offer.server_types if instance.pk in offer.open_locations else []
        return {
            "supported": offer.server_types,
            "available": available,
            "available_for_migration": available,
        }


class DeleteProtectionSerializer(serializers.Serializer[Image]):
    delete = serializers.BooleanField(source="delete_protection")


class ImageSerializer(serializers.Serializer[Image]):
    id = serializers.IntegerField()
    type = serializers.ChoiceField(Image.Type.choices)
    status = serializers.ChoiceField(Image.Status.choices)
    name = serializers.CharField(allow_null=True, help_text="Of system images only.")
    description = serializers.CharField()
    os_flavor = serializers.CharField()
    os_version = serializers.SerializerMethodField()
    image_size = serializers.SerializerMethodField(help_text="GiB of the image file.")
    disk_size = serializers.FloatField(source="disk_gb", help_text="GiB that a disk must have.")
    architecture = serializers.CharField()
    rapid_deploy = Constant(False)
    bound_to = Constant(None)
    created_from = Constant(None)
    protection = DeleteProtectionSerializer(source="*")
    labels = serializers.DictField(child=serializers.CharField())
    created = serializers.DateTimeField()
    deprecated = serializers.DateTimeField(source="deprecated_at", allow_null=True)
    deprecation = DeprecationSerializer(source="deprecated_at", allow_null=True)
    deleted = serializers.DateTimeField(source="deleted_at", allow_null=True)

    def get_os_version(self, instance: Image) -> str | None:
        return instance.os_version or None

    def get_image_size(self, instance: Image) -> float | None:
        creating = instance.status == Image.Status.CREATING
        return None if creating else round(instance.bytes / _GIB, 3)


class SshKeySerializer(serializers.Serializer[SshKey]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    fingerprint = serializers.CharField(help_text="MD5 as lower-case hex pairs with colons.")
    public_key = serializers.CharField()
    labels = serializers.DictField(child=serializers.CharField())
    created = serializers.DateTimeField()


class DnsPtrSerializer(serializers.Serializer[Any]):
    ip = serializers.IPAddressField()
    dns_ptr = serializers.CharField()


class PublicIpv4Serializer(serializers.Serializer[PrimaryIp]):
    id = serializers.IntegerField(
        allow_null=True, help_text="Null: the outside network's own DHCP gave the address."
    )
    ip = serializers.CharField(source="address")
    blocked = Constant(False)
    dns_ptr = serializers.SerializerMethodField()

    def get_dns_ptr(self, instance: PrimaryIp) -> str:
        return dns_names(instance)[0]["dns_ptr"]


class PublicIpv6Serializer(serializers.Serializer[PrimaryIp]):
    id = serializers.IntegerField()
    ip = serializers.CharField(source="address", help_text="A /64.")
    blocked = Constant(False)
    dns_ptr = serializers.SerializerMethodField()

    @extend_schema_field(DnsPtrSerializer(many=True))
    def get_dns_ptr(self, instance: PrimaryIp) -> list[dict[str, str]]:
        return dns_names(instance)


class ForwardedPortSerializer(serializers.Serializer[ForwardedPort]):
    protocol = serializers.ChoiceField(ForwardedPort.Protocol.choices)
    ip = serializers.CharField(
        source="nic.vm.host.forward_ip",
        allow_null=True,
        help_text="Null: its host forwards no more.",
    )
    port = serializers.IntegerField()
    guest_port = serializers.IntegerField()


class ServerFirewallSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    status = serializers.ChoiceField(["applied", "pending"])


class PublicNetSerializer(serializers.Serializer[Nic]):
    """Clients need four keys, whatever the server has; `forwarded_ports` is beside them."""

    ipv4 = PublicIpv4Serializer(allow_null=True)
    ipv6 = PublicIpv6Serializer(allow_null=True)
    floating_ips = serializers.SerializerMethodField()
    firewalls = serializers.SerializerMethodField()
    forwarded_ports = ForwardedPortSerializer(
        many=True, source="led_ports", help_text="Ports of its host that lead to it."
    )

    @extend_schema_field(ServerFirewallSerializer(many=True))
    def get_firewalls(self, instance: Nic) -> list[dict[str, Any]]:
        return [
            {"id": pk, "status": "applied" if applied else "pending"}
            for pk, applied in firewall_states(instance.vm).items()
        ]

    def get_floating_ips(self, instance: Nic) -> list[int]:
        return [one.floating_ip_id for one in instance.floating.all()] if instance.pk else []

    def to_representation(self, instance: Nic) -> dict[str, Any]:
        shown = super().to_representation(instance)
        if instance.leased_ipv4:
            leased = {"id": None, "ip": instance.leased_ipv4, "blocked": False, "dns_ptr": ""}
            shown["ipv4"] = leased
        return shown


class PrivateNetSerializer(serializers.Serializer[Nic]):
    network = serializers.IntegerField(source="network_id")
    ip = serializers.CharField(source="private_ip")
    alias_ips = serializers.ListField(child=serializers.CharField())
    mac_address = serializers.CharField(source="mac")


class ServerProtectionSerializer(serializers.Serializer[VM]):
    delete = serializers.BooleanField(source="delete_protection")
    rebuild = serializers.BooleanField(source="rebuild_protection")


# Shows what `VM.objects.for_api()` found.
class ServerSerializer(serializers.Serializer[VM]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    status = serializers.ChoiceField([status.value for status in Status])
    created = serializers.DateTimeField()
    server_type = ServerTypeSerializer()
    location = LocationSerializer(source="host.location")
    datacenter = DatacenterSerializer(source="host.location")
    image = ImageSerializer(allow_null=True)
    iso = Constant(None)
    placement_group = Constant(None)
    public_net = serializers.SerializerMethodField()
    private_net = serializers.SerializerMethodField()
    primary_disk_size = serializers.IntegerField(source="disk_gb", help_text="GiB")
    volumes = Constant([])
    load_balancers = Constant([])
    rescue_enabled = Constant(False)
    locked = serializers.SerializerMethodField()
    backup_window = Constant(None)
    outgoing_traffic = Constant(None)
    ingoing_traffic = Constant(None)
    included_traffic = Constant(None)
    protection = ServerProtectionSerializer(source="*")
    labels = serializers.DictField(child=serializers.CharField())

    @extend_schema_field(PublicNetSerializer)
    def get_public_net(self, instance: VM) -> dict[str, Any]:
        public = (nic for nic in instance.nics.all() if nic.index == PUBLIC_INDEX)
        nic = next(public, None) or Nic(vm=instance)
        return PublicNetSerializer(nic).data

    @extend_schema_field(PrivateNetSerializer(many=True))
    def get_private_net(self, instance: VM) -> Any:
        # A server may go while it is read: NICs first, then their addresses.
        private = [
            nic for nic in instance.nics.all() if nic.index != PUBLIC_INDEX and nic.private_ips
        ]
        shown = PrivateNetSerializer(private, many=True)  # type: ignore[arg-type]  # many
        return shown.data

    def to_representation(self, instance: VM) -> dict[str, Any]:
        shown = super().to_representation(instance)
        if instance.image.deleted_at:
            shown["image"] = None
        return shown

    def get_locked(self, instance: Any) -> bool:
        return bool(instance.deleting or instance.locked)


class CreatedServerSerializer(serializers.Serializer[Any]):
    """The answer to a created server; its addresses are final."""

    server = ServerSerializer()
    action = ActionSerializer()
    next_actions = ActionSerializer(many=True)
    root_password = serializers.CharField(allow_null=True, help_text="Null if keys were given.")


@extend_schema_field({"type": "array", "items": {"type": "array", "items": {}}})
class ValuesField(serializers.Field[Any, Any, list[list[float | str]], Any]):
    """Pairs of Unix seconds and a decimal string."""

    def to_representation(self, value: Values) -> list[list[float | str]]:
        return [[moment, f"{number:.3f}"] for moment, number in value]


class TimeSeriesSerializer(serializers.Serializer[Any]):
    values = ValuesField()


class MetricsSerializer(serializers.Serializer[tuple[Period, dict[str, Values]]]):
    """Shows a period and the series found in it."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    step = serializers.IntegerField(help_text="Seconds; wider than asked for if need be.")
    time_series = serializers.DictField(child=TimeSeriesSerializer())

    def to_representation(self, instance: tuple[Period, dict[str, Values]]) -> dict[str, Any]:
        period, found = instance
        shown = {
            "start": period.start,
            "end": period.end,
            "step": period.step,
            "time_series": {name: {"values": values} for name, values in found.items()},
        }
        return super().to_representation(shown)  # type: ignore[arg-type]  # what the fields read


class TypePricesSerializer(serializers.Serializer[ServerType]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    prices = Constant([])


_FREE = {"net": "0.0000", "gross": "0.0000"}


class PricingSerializer(serializers.Serializer[Any]):
    """The price list, shown for the server types it is about."""

    currency = Constant("EUR")
    vat_rate = Constant("0.00")
    image = Constant({"price_per_gb_month": _FREE})
    volume = Constant({"price_per_gb_month": _FREE})
    floating_ip = Constant({"price_monthly": _FREE})
    floating_ips = Constant([])
    primary_ips = Constant([])
    server_backup = Constant({"percentage": "0.00"})
    server_types = TypePricesSerializer(many=True, source="*")
    load_balancer_types = Constant([])
