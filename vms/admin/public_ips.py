"""Primary and floating IPs: who has them, and what an operator may do to them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import display

from cloud.admin.activity import HEADERS, action_rows
from cloud.admin.base import FactsAdmin
from cloud.admin.display import (
    Tone,
    ago,
    badge,
    code,
    labels,
    lines,
    link,
    list_url,
    stacked,
)
from cloud.admin.operations import Effect, Operation
from cloud.admin.page import Card, Cell, Fact, Page, Table
from cloud.admin.resources import register
from cloud.models import Action
from networks.models import FloatingIp, PrimaryIp, PublicIp
from networks.public_ips import change_ip_protection, delete_ip, dns_names
from vms.floating_ips import unassign_floating_ip
from vms.primary_ips import unassign_primary_ip

for _kind, _page in ((PrimaryIp, "networks_primaryip"), (FloatingIp, "networks_floatingip")):
    register(
        _kind.resource,
        _page,
        lambda ids, kind=_kind: dict(  # type: ignore[misc]
            kind._default_manager.filter(pk__in=ids).values_list("pk", "name")
        ),
    )


def _delete_effect(ip: PublicIp) -> Effect:
    if ip.delete_protection:
        return Effect("is protected: will be refused", Tone.WARN)
    if ip.nic:
        return Effect(f"is assigned to server {ip.nic.vm}: will be refused", Tone.WARN)
    return Effect(f"is deleted; {ip.address} goes back to its pool", Tone.BAD)


def _delete(ip: PublicIp) -> str:
    delete_ip(ip)
    return f"{ip} is deleted."


def _protect(ip: PublicIp, on: bool) -> str:
    change_ip_protection(ip, delete=on)
    return f"{ip} is protected from deletion." if on else f"{ip} can be deleted."


def _unassign(ip: Any, function: Callable[[Any], Action]) -> SafeString:
    action = function(ip)
    return format_html("{} was taken from its server: {}", ip, link(action, f"action #{action.pk}"))


def _operations(kind: type[PublicIp], unassign: Callable[[Any], Action]) -> tuple[Operation, ...]:
    name = kind._meta.model_name
    change = f"networks.change_{name}"
    return (
        Operation(
            name="unassign",
            verb="Unassign",
            icon="link_off",
            permission=change,
            explanation="The server loses the address, the project keeps it. A server must be off"
            " to lose a primary IP.",
            effect=lambda ip: Effect(
                f"is taken from server {ip.nic.vm}" if ip.nic else "is at no server"
            ),
            run=partial(_unassign, function=unassign),
            offered=lambda ip: ip.nic is not None,
        ),
        Operation(
            name="protect",
            verb="Protect",
            icon="lock",
            permission=change,
            explanation="A protected IP cannot be deleted until the protection is removed.",
            effect=lambda ip: Effect("cannot be deleted any more"),
            run=partial(_protect, on=True),
            offered=lambda ip: not ip.delete_protection,
        ),
        Operation(
            name="unprotect",
            verb="Remove protection",
            icon="lock_open",
            permission=change,
            explanation="The IP can be deleted afterwards.",
            effect=lambda ip: Effect("can be deleted"),
            run=partial(_protect, on=False),
            offered=lambda ip: ip.delete_protection,
        ),
        Operation(
            name="destroy",
            verb="Delete",
            icon="delete",
            permission=f"networks.delete_{name}",
            explanation="The project loses the address. It is lent again once no host has it.",
            effect=_delete_effect,
            run=_delete,
            dangerous=True,
        ),
    )


class PublicIpAdmin(FactsAdmin):
    """What the pages of both kinds have in common."""

    list_display = ("title", "address_", "server", "project_", "where", "made")
    list_filter: Any = (
        ("type", ChoicesDropdownFilter),
        ("location", RelatedDropdownFilter),
        ("project", RelatedDropdownFilter),
    )
    search_help_text = "Name, address, server or project"
    ordering = ("-id",)

    @display(description="Name", ordering="name")
    def title(self, ip: PublicIp) -> SafeString:
        return stacked(ip.name, ip.get_type_display())

    @display(description="Address", ordering="address__ip")
    def address_(self, ip: PublicIp) -> SafeString:
        return link(ip.address)

    @display(description="Server")
    def server(self, ip: PublicIp) -> Cell:
        return _server(ip)

    @display(description="Project", ordering="project")
    def project_(self, ip: PublicIp) -> SafeString:
        return link(ip.project)

    @display(description="Location", ordering="location")
    def where(self, ip: PublicIp) -> SafeString:
        return link(ip.location)

    @display(description="Created", ordering="created")
    def made(self, ip: PublicIp) -> SafeString:
        return ago(ip.created)

    def page(self, request: HttpRequest, row: Any) -> Page:
        last = Action.objects.of(row.resource, row.pk).prefetch_related("resources")
        return Page(
            title=row.name,
            icon="public",
            badges=[badge("protected", Tone.IDLE)] if row.delete_protection else [],
            subtitle=format_html("{} at {}", code(row.address), _server(row)),
            cards=[
                Card(
                    "IP",
                    [
                        Fact("Address", link(row.address)),
                        Fact("Pool", link(row.address.network)),
                        Fact("Server", _server(row)),
                        Fact("Project", link(row.project)),
                        Fact("Location", link(row.location)),
                        *self.more_facts(row),
                        Fact("Reverse names", _names(row)),
                        Fact("Labels", labels(row.labels)),
                        Fact("Created", ago(row.created)),
                        Fact("Number", code(row.pk), "As the API and its clients name it."),
                    ],
                    icon="public",
                )
            ],
            tables=[
                Table(
                    "Last actions",
                    HEADERS,
                    action_rows(last.order_by("-id")[:10]),
                    "None yet.",
                    more_url=list_url(Action, f"?q={row.pk}"),
                )
            ],
        )

    def more_facts(self, row: Any) -> list[Fact]:
        """What only this kind has."""
        raise NotImplementedError


@admin.register(PrimaryIp)
class PrimaryIpAdmin(PublicIpAdmin):
    search_fields = (
        "name",
        "^address__ip",
        "project__name",
        "nic4__vm__name",
        "nic6__vm__name",
    )
    operations = _operations(PrimaryIp, unassign_primary_ip)
    empty_list = (
        "No primary IPs yet",
        "Every server brings its own; projects may keep others for later:",
        "hcloud primary-ip create --name web --type ipv4 --datacenter LOCATION-dc1",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[PrimaryIp]:
        related = ("project", "address__network", "nic4__vm", "nic6__vm")
        return PrimaryIp.objects.with_server().select_related(*related)

    def more_facts(self, row: PrimaryIp) -> list[Fact]:
        return [Fact("When its server is deleted", "goes too" if row.auto_delete else "stays")]


@admin.register(FloatingIp)
class FloatingIpAdmin(PublicIpAdmin):
    search_fields = ("name", "^address__ip", "project__name", "assignment__nic__vm__name")
    operations = _operations(FloatingIp, unassign_floating_ip)
    empty_list = (
        "No floating IPs yet",
        "An address that a project moves from server to server.",
        "hcloud floating-ip create --type ipv4 --home-location LOCATION",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[FloatingIp]:
        related = ("project", "address__network", "assignment__nic__vm")
        return FloatingIp.objects.with_server().select_related(*related)

    def more_facts(self, row: FloatingIp) -> list[Fact]:
        return [Fact("Description", row.description)]


def _server(ip: PublicIp) -> Cell:
    return link(ip.nic.vm) if ip.nic else "no server"


def _names(ip: PublicIp) -> Cell:
    return lines(format_html("{} {}", one["ip"], one["dns_ptr"]) for one in dns_names(ip))
