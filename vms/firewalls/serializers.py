"""How firewalls look in answers. Shows what `Firewall.objects.with_resources()` found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.api.fields import Constant
from cloud.serializers import ActionSerializer
from networks.firewalls.rules import DIRECTIONS, PROTOCOLS
from networks.models import Firewall
from vms.models import FirewallUse


class RuleSerializer(serializers.Serializer[Any]):
    direction = serializers.ChoiceField(DIRECTIONS)
    protocol = serializers.ChoiceField(PROTOCOLS)
    port = serializers.CharField(allow_null=True, help_text="80 or 1024-5000, for TCP and UDP.")
    source_ips = serializers.ListField(child=serializers.CharField(), help_text="Of `in` rules.")
    destination_ips = serializers.ListField(
        child=serializers.CharField(), help_text="Of `out` rules."
    )
    description = serializers.CharField(allow_null=True)


class AppliedServerSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()


class AppliedSelectorSerializer(serializers.Serializer[Any]):
    selector = serializers.CharField()


class AppliedResourceSerializer(serializers.Serializer[Any]):
    type = Constant("server")
    server = AppliedServerSerializer()


class AppliedToSerializer(serializers.Serializer[Any]):
    type = serializers.ChoiceField(["server", "label_selector"])
    server = AppliedServerSerializer(required=False)
    label_selector = AppliedSelectorSerializer(required=False)
    applied_to_resources = AppliedResourceSerializer(many=True, required=False)


class FirewallSerializer(serializers.Serializer[Firewall]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    labels = serializers.DictField(child=serializers.CharField())
    created = serializers.DateTimeField()
    rules = RuleSerializer(many=True)
    applied_to = serializers.SerializerMethodField()

    @extend_schema_field(AppliedToSerializer(many=True))
    def get_applied_to(self, instance: Any) -> list[dict[str, Any]]:
        direct = [use for use in instance.uses.all() if use.selector_id is None]
        return [
            *_servers(direct),
            *(
                {
                    "type": "label_selector",
                    "label_selector": {"selector": selector.selector},
                    "applied_to_resources": _servers(selector.uses.all()),
                }
                for selector in instance.selectors.all()
            ),
        ]


class ActionsSerializer(serializers.Serializer[Any]):
    """The answer to a change of a firewall."""

    actions = ActionSerializer(many=True)


class CreatedFirewallSerializer(ActionsSerializer):
    """The answer to a created firewall."""

    firewall = FirewallSerializer()


def _servers(uses: Iterable[FirewallUse]) -> list[dict[str, Any]]:
    return [{"type": "server", "server": {"id": use.vm_id}} for use in uses]
