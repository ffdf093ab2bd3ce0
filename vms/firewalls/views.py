"""API views of firewalls."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import QuerySet, prefetch_related_objects
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.filters import LabelledFilter
from cloud.api.idempotency import once
from cloud.api.views import Collection
from cloud.models import Action
from networks.models import Firewall
from vms.firewalls.actions import (
    apply_firewall,
    create_firewall,
    delete_firewall,
    remove_firewall,
    set_rules,
    update_firewall,
)
from vms.firewalls.requests import (
    ApplyRequest,
    FirewallCreateRequest,
    RemoveRequest,
    SetRulesRequest,
)
from vms.firewalls.serializers import (
    ActionsSerializer,
    CreatedFirewallSerializer,
    FirewallSerializer,
)
from vms.requests import NameAndLabelsRequest


class Firewalls(Collection[Firewall]):
    """Rules for what may reach servers and leave them."""

    singular, plural = "firewall", "firewalls"
    queryset = Firewall.objects.all()
    serializer_class = FirewallSerializer
    requests = {
        "create": FirewallCreateRequest,
        "update": NameAndLabelsRequest,
        "set_rules": SetRulesRequest,
        "apply_to_resources": ApplyRequest,
        "remove_from_resources": RemoveRequest,
    }
    filterset_class = LabelledFilter
    sort_keys = ("name", "created")

    def get_queryset(self) -> QuerySet[Firewall]:
        return Firewall.objects.with_resources().filter(project=self.project)

    @extend_schema(responses={201: CreatedFirewallSerializer})
    @once
    def create(self, request: Request) -> Response:
        """Make a firewall, and apply it to servers and label selectors."""
        firewall, actions = create_firewall(self.project, **self.body())
        prefetch_related_objects(actions, "resources")
        answer = {"firewall": self.find(firewall.pk), "actions": actions}
        return Response(CreatedFirewallSerializer(answer).data, 201)

    @once
    def update(self, request: Request, pk: int) -> Response:
        """Rename or relabel."""
        return Response({self.singular: self.show(update_firewall(self.find(pk), **self.body()))})

    @once
    def destroy(self, request: Request, pk: int) -> Response:
        """Delete a firewall that is applied to nothing."""
        delete_firewall(self.find(pk))
        return Response(status=204)

    @extend_schema(responses={201: ActionsSerializer})
    @once
    def set_rules(self, request: Request, pk: int) -> Response:
        """Replace all rules, at all servers that the firewall guards."""
        return self._begun(set_rules(self.find(pk), **self.body()))

    @extend_schema(responses={201: ActionsSerializer})
    @once
    def apply_to_resources(self, request: Request, pk: int) -> Response:
        """Let the firewall guard more servers, by their ids or by a label selector."""
        return self._begun(apply_firewall(self.find(pk), self.body()["apply_to"]))

    @extend_schema(responses={201: ActionsSerializer})
    @once
    def remove_from_resources(self, request: Request, pk: int) -> Response:
        """Take the firewall from servers and label selectors; the servers keep other ones."""
        return self._begun(remove_firewall(self.find(pk), self.body()["remove_from"]))

    def _begun(self, actions: Sequence[Action]) -> Response:
        prefetch_related_objects(actions, "resources")
        return Response(ActionsSerializer({"actions": actions}).data, 201)
