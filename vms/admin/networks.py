"""Private networks: how they are divided, who is in them, and how far each host is with them."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import BooleanRadioFilter, RelatedDropdownFilter
from unfold.decorators import display

from cloud.admin.base import FactsAdmin
from cloud.admin.display import Tone, ago, badge, code, labels, link, list_url, page_url, stacked
from cloud.admin.forms import FormPage, OrderForm, Section, answer_form, done
from cloud.admin.operations import Effect, Operation
from cloud.admin.page import Card, Fact, Page
from cloud.admin.resources import register
from cloud.admin.rowforms import Entry, RowForm, RowFormsMixin
from networks.models import PrivateNetwork
from vms.admin.network_facts import (
    actions_table,
    hosts_table,
    members_table,
    routes_table,
    subnets_table,
)
from vms.admin.network_forms import (
    AttachForm,
    NetworkForm,
    NetworkSettingsForm,
    RouteForm,
    SubnetForm,
)
from vms.private.actions import (
    add_route,
    add_subnet,
    change_network_protection,
    create_network,
    delete_network,
    update_network,
)
from vms.private.servers import attach_to_network

register(
    PrivateNetwork.resource,
    "networks_privatenetwork",
    lambda ids: dict(
        PrivateNetwork.objects.existing().filter(pk__in=ids).values_list("pk", "name")
    ),
)


def _delete(network: PrivateNetwork) -> str:
    delete_network(network)
    return f"Network {network} is deleted; its servers' hosts are being told."


def _delete_effect(network: Any) -> Effect:
    if network.delete_protection:
        return Effect("is protected: will be refused", Tone.WARN)
    return Effect(f"is deleted, {network.member_count} servers leave it", Tone.BAD)


def _protect(network: PrivateNetwork, *, delete: bool) -> str:
    change_network_protection(network, delete=delete)
    return f"Network {network} is {'protected' if delete else 'no longer protected'}."


_OPERATIONS = (
    Operation(
        name="protect",
        verb="Protect",
        icon="lock",
        permission="networks.change_privatenetwork",
        explanation="It cannot be deleted until the protection is removed.",
        effect=lambda network: Effect("will be protected"),
        run=partial(_protect, delete=True),
        offered=lambda network: not network.delete_protection,
    ),
    Operation(
        name="unprotect",
        verb="Remove protection",
        icon="lock_open",
        permission="networks.change_privatenetwork",
        explanation="It can be deleted again.",
        effect=lambda network: Effect("can be deleted afterwards", Tone.WARN),
        run=partial(_protect, delete=False),
        offered=lambda network: network.delete_protection,
    ),
    Operation(
        name="forget",
        verb="Delete",
        icon="delete",
        permission="networks.delete_privatenetwork",
        explanation="Servers in it are detached, also while they run.",
        effect=_delete_effect,
        run=_delete,
        dangerous=True,
    ),
)


@admin.register(PrivateNetwork)
class PrivateNetworkAdmin(RowFormsMixin, FactsAdmin):
    row_forms = (
        Entry("attach", "Attach a server", "add_link"),
        Entry("subnet", "Add a subnet", "splitscreen_add"),
        Entry("route", "Add a route", "alt_route"),
        Entry("settings", "Change", "edit"),
    )
    list_display = ("title", "range_", "members", "told", "chips", "made")
    list_filter = (("project", RelatedDropdownFilter), ("egress", BooleanRadioFilter))
    search_fields = ("name", "project__name")
    search_help_text = "Name or project"
    empty_list = (
        "No private networks yet",
        "Servers of a project on all hosts share a private network as if by one switch.",
        "hcloud network create --name backend --ip-range 10.0.0.0/16",
    )
    add_label = "Add a private network"
    operations = _OPERATIONS

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("networks.add_privatenetwork")

    def get_queryset(self, request: HttpRequest) -> QuerySet[PrivateNetwork]:
        existing = PrivateNetwork.objects.existing().select_related("project")
        return existing.prefetch_related("subnets", "routes").annotate(
            member_count=Count("nics", distinct=True),
            host_count=Count("replicas", filter=Q(replicas__wanted=True), distinct=True),
            waiting_count=Count("replicas", filter=Q(replicas__converged=False), distinct=True),
        )

    @display(description="Network", ordering="name")
    def title(self, network: PrivateNetwork) -> SafeString:
        return stacked(network.name, network.project)

    @display(description="Range", ordering="ip_range")
    def range_(self, network: PrivateNetwork) -> SafeString:
        subnets = len(network.subnets.all())
        return stacked(code(network.ip_range), f"{subnets} subnet{'s' if subnets != 1 else ''}")

    @display(description="Servers", ordering="member_count")
    def members(self, network: Any) -> str:
        return str(network.member_count)

    @display(description="Hosts", ordering="host_count")
    def told(self, network: Any) -> SafeString:
        return stacked(network.host_count, _waiting(network) or "all have it as it is")

    @display(description="Labels")
    def chips(self, network: PrivateNetwork) -> SafeString:
        return labels(network.labels)

    @display(description="Created", ordering="created")
    def made(self, network: PrivateNetwork) -> SafeString:
        return ago(network.created)

    def page(self, request: HttpRequest, row: Any) -> Page:
        waiting = _waiting(row)
        badges = [badge(waiting, Tone.BUSY, moving=True)] if waiting else []
        if row.delete_protection:
            badges.append(badge("protected", Tone.IDLE))
        return Page(
            title=row.name,
            icon="hub",
            badges=badges,
            subtitle=link(row.project),
            cards=[
                Card(
                    "Network",
                    [
                        Fact("Range", code(row.ip_range)),
                        Fact(
                            "Way to the world",
                            "by the hosts" if row.egress else "none of its own",
                            "For servers without a public address (source NAT).",
                        ),
                        Fact("VNI", code(row.vni), "Its number on the wire between hosts."),
                        Fact("Labels", labels(row.labels)),
                        Fact("Created", ago(row.created)),
                        Fact("Number", code(row.pk), "As the API and its clients name it."),
                    ],
                    icon="hub",
                )
            ],
            tables=[
                subnets_table(row),
                routes_table(row),
                members_table(row),
                hosts_table(row),
                actions_table(row),
            ],
            reload_seconds=2 if waiting else 10,
        )

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        form = NetworkForm(request.POST or None)

        def submit(data: dict[str, Any]) -> HttpResponse:
            network = create_network(data["project"], form.network_order())
            self.log_addition(request, network, "Added.")
            return done(request, f"Network {network} is added.", page_url(network))

        page = FormPage(
            title="Add a private network",
            sections=(
                Section("Network", ("project", "name", "ip_range", "egress", "labels")),
                Section("First subnet", ("network_zone", "subnet")),
            ),
            button="Add",
            permission="networks.add_privatenetwork",
            submit=submit,
            back=list_url(PrivateNetwork),
            icon="hub",
        )
        return answer_form(self, request, form, page)

    def row_form(self, row: Any, name: str, sent: QueryDict | None) -> RowForm:
        form, title = _form(sent, row, name)
        section = Section("Network", tuple(form.fields))
        return RowForm(form, title, section, lambda data: _change(row, form, data))


def _waiting(network: Any) -> str:
    """How many hosts have not yet done what they were told; "" if all have."""
    return f"{network.waiting_count} under way" if network.waiting_count else ""


def _form(sent: QueryDict | None, network: PrivateNetwork, name: str) -> tuple[OrderForm, str]:
    match name:
        case "attach":
            return AttachForm(sent, network=network), f"Attach a server to {network}"
        case "subnet":
            return SubnetForm(sent), f"Add a subnet to {network}"
        case "route":
            return RouteForm(sent), f"Add a route to {network}"
        case _:
            known = {"name": network.name, "labels": network.labels, "egress": network.egress}
            return NetworkSettingsForm(sent, initial=known), f"Change {network}"


def _change(network: PrivateNetwork, form: OrderForm, data: dict[str, Any]) -> str:
    """Do what the form asks, and say so."""
    match form:
        case AttachForm():
            attach_to_network(data["server"], network, form.seat())
            return f"{data['server']} is attached to {network}; the hosts are being told."
        case SubnetForm():
            add_subnet(network, form.order())
            return f"Network {network} has another subnet."
        case RouteForm():
            add_route(network, form.order())
            return f"Network {network} has another route."
        case _:
            update_network(network, **data)
            return f"Network {network} is saved."
