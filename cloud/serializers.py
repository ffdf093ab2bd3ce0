"""How actions, locations, hosts and audit entries look in answers."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.actor import Kind
from cloud.models import Action, ActionResource, AuditEntry, Host, Location
from cloud.timeline import Bar, Timeline
from cloud.wire import StepName


class ActionResourceSerializer(serializers.Serializer[ActionResource]):
    id = serializers.IntegerField(source="resource_id")
    type = serializers.CharField()


class ActionErrorSerializer(serializers.Serializer[Action]):
    code = serializers.CharField(source="error_code")
    message = serializers.CharField(source="error_message")


class ActionSerializer(serializers.Serializer[Action]):
    id = serializers.IntegerField()
    command = serializers.CharField()
    status = serializers.ChoiceField(Action.Status.choices)
    progress = serializers.IntegerField(min_value=0, max_value=100)
    started = serializers.DateTimeField()
    finished = serializers.DateTimeField(allow_null=True)
    resources = ActionResourceSerializer(many=True)
    error = ActionErrorSerializer(source="*", allow_null=True)
    request_id = serializers.CharField(help_text="Of the request that asked for it.")

    def to_representation(self, instance: Action) -> dict[str, Any]:
        shown = super().to_representation(instance)
        # Clients take any error as failure, so there is none before it happened.
        if instance.status != Action.Status.ERROR:
            shown["error"] = None
        return shown


class StepSerializer(serializers.Serializer[Bar]):
    """One step; `duration` in seconds, so far if it is under way."""

    name = serializers.ChoiceField([name.value for name in StepName], source="step.name")
    host = serializers.CharField(source="step.host")
    started = serializers.DateTimeField()
    finished = serializers.DateTimeField(allow_null=True)
    duration = serializers.FloatField(source="seconds", help_text="Seconds.")
    attempt = serializers.IntegerField(source="step.attempt", min_value=1)
    error = ActionErrorSerializer(source="step", allow_null=True)

    def to_representation(self, instance: Bar) -> dict[str, Any]:
        shown = super().to_representation(instance)
        if not instance.failed:
            shown["error"] = None
        return shown


class TimelineSerializer(serializers.Serializer[Timeline]):
    action = ActionSerializer()
    began = serializers.DateTimeField()
    ended = serializers.DateTimeField(help_text="Now, while anything is under way.")
    duration = serializers.FloatField(source="seconds", help_text="Seconds.")
    steps = StepSerializer(many=True, source="bars")
    passed_over = serializers.DictField(
        child=serializers.CharField(), help_text="Why each other host does not have it."
    )


class LocationSerializer(serializers.Serializer[Location]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    description = serializers.CharField()
    country = serializers.CharField(help_text="ISO 3166-1 alpha-2.")
    city = serializers.CharField()
    latitude = serializers.FloatField()
    longitude = serializers.FloatField()
    network_zone = serializers.CharField()


class HostUseSerializer(serializers.Serializer[Host]):
    """What the servers of a host have claimed."""

    servers = serializers.IntegerField(source="vm_count")
    cores = serializers.IntegerField(source="used_cores")
    memory_mb = serializers.IntegerField(source="used_memory_mb", help_text="MiB")
    disk_gb = serializers.IntegerField(source="used_disk_gb", help_text="GiB")


class HostCapacitySerializer(serializers.Serializer[Host]):
    """What a host has in all. Cores are promised several times over, the rest is not."""

    cores = serializers.IntegerField()
    memory_mb = serializers.IntegerField(help_text="MiB")
    disk_gb = serializers.IntegerField(help_text="GiB")


class PortRangeSerializer(serializers.Serializer[Any]):
    first = serializers.IntegerField()
    last = serializers.IntegerField()


class ProblemSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField(help_text="With the command that mends it.")


class HostSerializer(serializers.Serializer[Host]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    status = serializers.SerializerMethodField()
    location = LocationSerializer()
    schedulable = serializers.BooleanField(help_text="New servers may be placed here.")
    capacity = HostCapacitySerializer(source="*")
    used = HostUseSerializer(source="*")
    disk_free_gb = serializers.IntegerField(help_text="GiB that the host itself sees as free.")
    accelerator = serializers.CharField(help_text="kvm, tcg, or empty before it was probed.")
    accelerator_reason = serializers.CharField()
    network_mode = serializers.CharField(
        help_text="routed, bridged, or vde: in user mode, without any privilege."
    )
    uplink_ip = serializers.IPAddressField(allow_null=True)
    in_mesh = serializers.BooleanField(
        help_text="It reaches private networks by tunnels; a host in user mode does by `cables`."
    )
    tunnel_ip = serializers.IPAddressField(
        allow_null=True, help_text="Its address inside the mesh."
    )
    tunnel_endpoint = serializers.CharField(
        help_text="Where other hosts reach it; empty: behind NAT, it calls first."
    )
    forward_ip = serializers.IPAddressField(
        allow_null=True, help_text="Of a host in user mode: where its servers' ports are reached."
    )
    forward_ports = serializers.SerializerMethodField()
    public_ranges = serializers.ListField(
        child=serializers.CharField(), help_text="Led to the TAP that root prepared for it."
    )
    cables = serializers.BooleanField(help_text="It reaches private networks by cables.")
    cable_endpoint = serializers.CharField(help_text="Where it accepts cables; empty: nowhere.")
    problems = ProblemSerializer(many=True, help_text="What it lacks, and what mends that.")
    revoked_at = serializers.DateTimeField(
        allow_null=True, help_text="No other host talks to it since then."
    )
    leftovers = serializers.ListField(
        child=serializers.CharField(),
        help_text="What its network holds beyond the inventory, in words.",
    )
    agent_version = serializers.CharField()
    uuid = serializers.UUIDField(allow_null=True)
    refused_uuid = serializers.UUIDField(
        allow_null=True, help_text="Another machine that tried to use this name."
    )
    boot_id = serializers.CharField()
    last_heartbeat = serializers.DateTimeField(allow_null=True)
    created = serializers.DateTimeField()

    @extend_schema_field(PortRangeSerializer(allow_null=True))
    def get_forward_ports(self, host: Host) -> dict[str, int] | None:
        """Those that may lead to servers; null if it forwards none."""
        if not host.last_forward_port:
            return None
        return {"first": host.first_forward_port, "last": host.last_forward_port}

    def get_status(self, host: Host) -> str:
        """up, silent (its servers are unknown meanwhile), revoked or never_joined."""
        if host.revoked_at is not None:
            return "revoked"
        if host.last_heartbeat is None:
            return "never_joined"
        silent = host.is_silent(timezone.now(), settings.HOST_SILENT_SECONDS)
        return "silent" if silent else "up"


class AuditActorSerializer(serializers.Serializer[AuditEntry]):
    type = serializers.ChoiceField([kind.value for kind in Kind], source="actor_kind")
    id = serializers.IntegerField(
        source="actor_id", required=False, help_text="Hosts and the cloud itself have none."
    )
    name = serializers.CharField(source="actor_name")

    def to_representation(self, instance: AuditEntry) -> dict[str, Any]:
        shown = super().to_representation(instance)
        # Typed clients expect every id to be a number, so it is left out rather than null.
        if instance.actor_id is None:
            del shown["id"]
        return shown


class AuditResourceSerializer(serializers.Serializer[AuditEntry]):
    type = serializers.CharField(source="resource_type")
    id = serializers.IntegerField(source="resource_id")
    name = serializers.CharField(source="resource_name", help_text="At that time.")


class AuditProjectSerializer(serializers.Serializer[AuditEntry]):
    id = serializers.IntegerField(source="project_id")
    name = serializers.CharField(source="project_name", help_text="At that time.")


class AuditEntrySerializer(serializers.Serializer[AuditEntry]):
    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor = AuditActorSerializer(source="*")
    verb = serializers.CharField()
    resource = AuditResourceSerializer(source="*")
    project = AuditProjectSerializer(source="*", allow_null=True)
    before = serializers.DictField(
        allow_null=True, help_text="The fields that changed; null if it was made."
    )
    after = serializers.DictField(
        allow_null=True, help_text="The same fields afterwards; null if it was deleted."
    )
    request_id = serializers.CharField()
    action_id = serializers.IntegerField(allow_null=True, help_text="What the user polled.")

    def to_representation(self, instance: AuditEntry) -> dict[str, Any]:
        shown = super().to_representation(instance)
        if instance.project_id is None:
            shown["project"] = None
        return shown
