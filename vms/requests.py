"""What requests about servers and SSH keys say, checked and looked up in the project.

What a value means is decided by the functions that views call; here only its form is, and
which object a reference names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.fields import empty

from cloud.api.fields import Id, Labels, NotYet, Reference, RequestSerializer, Text, find
from cloud.models import Location, Project
from networks.models import Firewall, PrimaryIp, PrivateNetwork
from vms.actions import ServerOrder
from vms.attachments import PublicNet
from vms.models import ForwardedPort, Image, ServerType, SshKey
from vms.ports import PROTOCOLS, Forward
from vms.querysets import offered
from vms.usage import SERIES, Period

_HALF_A_CENTURY = 50 * 366 * 86400.0

# The one datacenter of a location, as clients of before July 2026 name it.
_DATACENTER = re.compile(r"(?P<location>.+)-dc[0-9]+\Z")


class SshKeyCreateRequest(RequestSerializer):
    name = Text()
    public_key = Text()
    labels = Labels(required=False)


class NameAndLabelsRequest(RequestSerializer):
    """A change; keys that are not sent stay as they are."""

    name = Text(required=False)
    labels = Labels(required=False)


class ImageUpdateRequest(RequestSerializer):
    description = Text(required=False, allow_blank=True)
    labels = Labels(required=False)
    type = Text(required=False)


class ProtectionRequest(RequestSerializer):
    delete = serializers.BooleanField(required=False)
    rebuild = serializers.BooleanField(required=False)


class ForwardRequest(RequestSerializer):
    """A port of a server, as a `Forward`."""

    protocol = serializers.ChoiceField(
        ForwardedPort.Protocol.choices,
        error_messages={"invalid_choice": f'"{{input}}" is not one of {", ".join(PROTOCOLS)}'},
    )
    guest_port = serializers.IntegerField(min_value=1, max_value=65535)

    def to_internal_value(self, data: Any) -> Any:
        """Who names a port of the host, as answers do, must not believe to have it."""
        if isinstance(data, Mapping) and (unknown := sorted(set(data) - set(self.fields))):
            name = unknown[0]
            raise serializers.ValidationError(
                {
                    name: "the host's port is chosen by the cloud: leave `port` out"
                    if name == "port"
                    else "is not asked for here: leave it out"
                }
            )
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> Any:
        return Forward(**attrs)


class ForwardedPortsRequest(RequestSerializer):
    forwarded_ports = ForwardRequest(many=True, help_text="All that are to be; at most 64.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {"forwards": attrs["forwarded_ports"]}


class PublicNetRequest(RequestSerializer):
    """A family that is asked for alone, and primary IPs, are given or refused. Both families, as
    the official command line always says, mean what the location has. `forwarded_ports` is beside
    the contract.
    """

    enable_ipv4 = serializers.BooleanField(required=False, help_text="Default: true.")
    enable_ipv6 = serializers.BooleanField(required=False, help_text="Default: true.")
    ipv4 = serializers.IntegerField(required=False, help_text="Id of a primary IP.")
    ipv6 = serializers.IntegerField(required=False, help_text="Id of a primary IP.")
    forwarded_ports = ForwardRequest(
        many=True,
        required=False,
        help_text="In place of addresses: ports of a host in user mode that lead to these.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """All of it as a `PublicNet`."""
        own = PrimaryIp.objects.select_related("address__network", "location")
        own = own.filter(project=self.context["project"])
        named = {}
        enabled = {family: attrs.get(f"enable_{family}", True) for family in ("ipv4", "ipv6")}
        for family in enabled:
            if family not in attrs:
                continue
            if not enabled[family]:
                raise serializers.ValidationError({family: f"enable_{family} is false"})
            named[family] = find(own, attrs[family], family)
        required = [attrs.get("enable_ipv4"), attrs.get("enable_ipv6")].count(True) == 1
        forwarded = attrs.get("forwarded_ports")
        if forwarded is not None and (named or required):
            raise serializers.ValidationError(
                {"forwarded_ports": "are in place of addresses: ask for the ones or the others"}
            )
        return {
            "net": PublicNet(
                **enabled,
                primary4=named.get("ipv4"),
                primary6=named.get("ipv6"),
                required=required,
                forwarded=None if forwarded is None else tuple(forwarded),
            )
        }


class FirewallReference(RequestSerializer):
    firewall = Id()


class ServerCreateRequest(RequestSerializer):
    """A server to make. References are ids, ids as strings, or names."""

    name = Text()
    server_type = Reference()
    image = Reference()
    location = Reference(required=False)
    datacenter = Reference(required=False, help_text="Old name of the location's datacenter.")
    ssh_keys = serializers.ListField(child=Reference(), default=list, max_length=100)
    user_data = Text(default="", allow_blank=True, help_text="At most 32 KiB.")
    labels = Labels(default=dict)
    start_after_create = serializers.BooleanField(default=True)
    public_net = PublicNetRequest(required=False)
    automount = serializers.BooleanField(required=False)
    volumes = NotYet(required=False)
    networks = serializers.ListField(child=Id(), default=list, max_length=100)
    firewalls = serializers.ListField(child=FirewallReference(), default=list, max_length=100)
    placement_group = NotYet(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """All of it as one `order`."""
        project: Project = self.context["project"]
        now = timezone.now()
        server_type = find(
            ServerType.objects.filter(offered(now)),
            attrs["server_type"],
            "server_type",
            listed=True,
        )
        images = Image.objects.visible_to(project.pk).filter(offered(now))
        fitting = images.filter(architecture=server_type.architecture)
        keys = SshKey.objects.filter(project=project)
        networks = PrivateNetwork.objects.existing().filter(project=project)
        order = ServerOrder(
            name=attrs["name"],
            server_type=server_type,
            image=find(fitting, attrs["image"], "image"),
            location=location_of(attrs),
            ssh_keys=tuple(
                dict.fromkeys(find(keys, reference, "ssh_keys") for reference in attrs["ssh_keys"])
            ),
            user_data=attrs["user_data"],
            labels=attrs["labels"],
            start=attrs["start_after_create"],
            public_net=attrs.get("public_net", {}).get("net", PublicNet()),
            networks=tuple(
                dict.fromkeys(find(networks, pk, "networks") for pk in attrs["networks"])
            ),
            firewalls=tuple(
                find(Firewall.objects.filter(project=project), one["firewall"], "firewalls")
                for one in attrs["firewalls"]
            ),
        )
        return {"order": order}


class SeriesTypes(serializers.MultipleChoiceField):
    """`type=cpu&type=disk` or `type=cpu,disk`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=list(SERIES), allow_empty=False, **kwargs)

    def get_value(self, dictionary: Any) -> Any:
        texts = dictionary.getlist(self.field_name)
        return [word for text in texts for word in text.split(",")] if texts else empty


class Seconds(serializers.FloatField):
    """A positive number of seconds."""

    def to_internal_value(self, data: Any) -> float:
        seconds = super().to_internal_value(data)
        if not 0 < seconds <= _HALF_A_CENTURY:
            raise serializers.ValidationError("must be a number of seconds above 0")
        return seconds


class MetricsRequest(serializers.Serializer[Any]):
    """The query of a server's metrics."""

    type = SeriesTypes()
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    step = Seconds(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The types as they are, the rest as one `period`."""
        if attrs["start"] >= attrs["end"]:
            raise serializers.ValidationError({"end": ["must be after start"]})
        period = Period.of(attrs["start"], attrs["end"], attrs.get("step"))
        return {"types": sorted(attrs["type"]), "period": period}


def location_of(attrs: dict[str, Any]) -> Location | None:
    """The location asked for; None if the choice is ours."""
    locations = Location.objects.all()
    location, datacenter = attrs.get("location"), attrs.get("datacenter")
    if location is not None and datacenter is not None:
        raise serializers.ValidationError({"datacenter": "cannot be given beside location"})
    if location is not None:
        return find(locations, location, "location", listed=True)
    if datacenter is not None:
        match = _DATACENTER.match(str(datacenter))
        return find(locations, match["location"] if match else datacenter, "datacenter")
    return None
