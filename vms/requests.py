"""Bodies of write requests about servers and SSH keys, checked and looked up in the project.

What a value means is decided by the functions that views call; here only its form is, and
which object a reference names.
"""

from __future__ import annotations

import re
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from cloud.api.fields import Id, Labels, NotYet, Reference, RequestSerializer, Text, find
from cloud.models import Location, Project
from networks.models import Firewall
from vms.actions import ServerOrder
from vms.models import Image, ServerType, SshKey
from vms.querysets import offered

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


class PublicNetRequest(RequestSerializer):
    enable_ipv4 = serializers.BooleanField(default=True)
    enable_ipv6 = serializers.BooleanField(default=True)
    ipv4 = NotYet(required=False)
    ipv6 = NotYet(required=False)


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
    networks = NotYet(required=False)
    firewalls = serializers.ListField(child=FirewallReference(), default=list, max_length=100)
    placement_group = NotYet(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """All of it as one `order`."""
        project: Project = self.context["project"]
        now = timezone.now()
        server_type = find(
            ServerType.objects.filter(offered(now)), attrs["server_type"], "server_type"
        )
        images = Image.objects.visible_to(project.pk).filter(offered(now))
        fitting = images.filter(architecture=server_type.architecture)
        keys = SshKey.objects.filter(project=project)
        order = ServerOrder(
            name=attrs["name"],
            server_type=server_type,
            image=find(fitting, attrs["image"], "image"),
            location=_location(attrs),
            ssh_keys=tuple(
                dict.fromkeys(find(keys, reference, "ssh_keys") for reference in attrs["ssh_keys"])
            ),
            user_data=attrs["user_data"],
            labels=attrs["labels"],
            start=attrs["start_after_create"],
            firewalls=tuple(
                find(Firewall.objects.filter(project=project), one["firewall"], "firewalls")
                for one in attrs["firewalls"]
            ),
            public_ipv4=attrs.get("public_net", {}).get("enable_ipv4", True),
        )
        return {"order": order}


def _location(attrs: dict[str, Any]) -> Location | None:
    """The location asked for; None if the choice is ours."""
    locations = Location.objects.all()
    location, datacenter = attrs.get("location"), attrs.get("datacenter")
    if location is not None and datacenter is not None:
        raise serializers.ValidationError({"datacenter": "cannot be given beside location"})
    if location is not None:
        return find(locations, location, "location")
    if datacenter is not None:
        match = _DATACENTER.match(str(datacenter))
        return find(locations, match["location"] if match else datacenter, "datacenter")
    return None
