"""Bodies of write requests about firewalls. What a rule may say is decided by the actions."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cloud.api.fields import Id, Labels, RequestSerializer, Text
from networks.firewalls.rules import Rule, check_rules
from vms.firewalls.actions import FirewallOrder, Target
from vms.firewalls.serializers import RuleSerializer


@extend_schema_field(RuleSerializer(many=True))
class Rules(serializers.Field[list[Rule], Any, list[Rule], Any]):
    """A whole list of rules; raises InvalidInput."""

    def to_internal_value(self, data: Any) -> list[Rule]:
        return check_rules(data)

    def to_representation(self, value: list[Rule]) -> list[Rule]:
        return value


class ServerReference(RequestSerializer):
    id = Id()


class SelectorReference(RequestSerializer):
    selector = Text()


class TargetRequest(RequestSerializer):
    """A server or a label selector, as a `Target`."""

    type = serializers.ChoiceField(["server", "label_selector"])
    server = ServerReference(required=False)
    label_selector = SelectorReference(required=False)

    def validate(self, attrs: dict[str, Any]) -> Any:
        kind = attrs["type"]
        if kind not in attrs:
            raise serializers.ValidationError({kind: f"is needed with type {kind}"})
        if kind == "server":
            return Target(server=attrs["server"]["id"])
        return Target(selector=attrs["label_selector"]["selector"])


class FirewallCreateRequest(RequestSerializer):
    """A firewall to make, as an `order`."""

    name = Text()
    labels = Labels(default=dict)
    rules = Rules(default=list)
    apply_to = TargetRequest(many=True, default=list)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {"order": FirewallOrder(**attrs)}


class SetRulesRequest(RequestSerializer):
    rules = Rules(help_text="All rules; an empty list clears them.")


class ApplyRequest(RequestSerializer):
    apply_to = TargetRequest(many=True, allow_empty=False)


class RemoveRequest(RequestSerializer):
    remove_from = TargetRequest(many=True, allow_empty=False)
