"""The admin of pools: what they lend, to whom, and how hosts connect it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import display

from cloud.admin.base import FactsAdmin
from cloud.admin.display import (
    Tone,
    ago,
    bar,
    code,
    link,
    list_url,
    page_url,
)
from cloud.admin.forms import FormPage, OrderForm, Section, answer_form, done
from cloud.admin.operations import Effect, Operation
from cloud.admin.page import Card, Fact, Page, Table
from cloud.models import Location, Project
from networks.admin.ledger import current_holders, holder_now
from networks.models import Address, Network
from networks.pools import Pool, remove_pool, usable
from vms.pools import describe_pool, ensure_pool


class PoolChangeForm(OrderForm):
    name = forms.CharField(max_length=128, widget=forms.TextInput(attrs={"placeholder": "public"}))
    excluded = forms.CharField(
        required=False,
        label="Never lent",
        help_text="Addresses and networks of the range, one a line: routers, for example.",
        widget=forms.Textarea(attrs={"rows": 3}),
    )
    dns = forms.CharField(
        required=False,
        label="Resolvers",
        help_text="DNS servers handed to guests, one address a line.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )


class PoolForm(PoolChangeForm):
    cidr = forms.CharField(
        label="Range",
        help_text="IPv4, or IPv6 from /32 to /64, which is lent in networks of /64.",
        widget=forms.TextInput(attrs={"placeholder": "198.51.100.0/24"}),
    )
    location = forms.ModelChoiceField(Location.objects.all(), empty_label=None)
    owner = forms.ModelChoiceField(
        Project.objects.all(), required=False, empty_label="Every project"
    )
    mode = forms.ChoiceField(
        choices=Network.Mode.choices,
        help_text="Routed: it lies behind the hosts. Bridged: it is the network of their uplinks.",
    )
    gateway = forms.CharField(
        required=False,
        help_text="Of a bridged pool.",
        widget=forms.TextInput(attrs={"placeholder": "198.51.100.1"}),
    )
    dhcp = forms.BooleanField(
        required=False,
        label="Outside DHCP",
        help_text="The DHCP of the bridged network gives the addresses.",
    )


def remove_effect(network: Any) -> Effect:
    if network.held_count:
        return Effect("has lent addresses: will be refused", Tone.WARN)
    return Effect("lends no more, if it never did", Tone.BAD)


def _remove(network: Network) -> str:
    remove_pool(network)
    return f"Pool {network} is removed."


@admin.register(Network)
class NetworkAdmin(FactsAdmin):
    list_display = ("title", "range", "lent", "connection", "for_", "where", "made")
    list_filter = (
        ("location", RelatedDropdownFilter),
        ("mode", ChoicesDropdownFilter),
        ("owner", RelatedDropdownFilter),
    )
    search_fields = ("name", "location__name")
    search_help_text = "Name or location"
    empty_list = (
        "No networks yet",
        "A public network is a pool of addresses that servers borrow one by one.",
        "manage.py pool_add NAME 198.51.100.0/24 --location LOCATION",
    )
    add_label = "Add a pool"
    operations = (
        Operation(
            name="remove",
            verb="Remove",
            icon="delete",
            permission="networks.delete_network",
            explanation="Only a pool that never lent an address can go: the history of addresses"
            " is kept. To lend no more of another one, exclude its whole range.",
            effect=remove_effect,
            run=_remove,
            dangerous=True,
            bulk=False,
        ),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("networks.add_network")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Network]:
        return Network.objects.with_use().select_related("location", "owner").order_by("name")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.describe_view)
        describe = path("<int:pk>/describe/", view, name="networks_network_describe")
        return [describe, *super().get_urls()]

    def buttons(self, request: HttpRequest, row: Any) -> list[dict[str, Any]]:
        found = super().buttons(request, row)
        if not request.user.has_perm("networks.change_network"):
            return found
        url = reverse("admin:networks_network_describe", args=[row.pk])
        return [{"verb": "Change", "icon": "edit", "dangerous": False, "url": url}, *found]

    @display(description="Network", ordering="name")
    def title(self, network: Network) -> SafeString:
        return format_html("<b>{}</b>", network.name)

    @display(description="Range", ordering="ip_range")
    def range(self, network: Network) -> SafeString:
        return code(network.ip_range)

    @display(description="Lent", ordering="held_count")
    def lent(self, network: Any) -> SafeString | str:
        return lent_bar(network)

    @display(description="Location", ordering="location")
    def where(self, network: Network) -> SafeString:
        return link(network.location)

    @display(description="Connection", ordering="mode")
    def connection(self, network: Network) -> str:
        return connection(network)

    @display(description="For", ordering="owner")
    def for_(self, network: Network) -> SafeString | str:
        return link(network.owner) if network.owner else "everybody"

    @display(description="Created", ordering="created")
    def made(self, network: Network) -> SafeString:
        return ago(network.created)

    def page(self, request: HttpRequest, row: Any) -> Page:
        held = current_holders(row.addresses.held()).order_by("ip")[:100]
        return Page(
            title=row.name,
            icon="lan",
            subtitle=format_html("{} in {}", code(row.ip_range), link(row.location)),
            cards=[
                Card(
                    "Pool",
                    [
                        Fact("Connection", connection(row)),
                        Fact("Gateway", code(row.gateway) if row.gateway else None),
                        Fact("For", link(row.owner) if row.owner else "everybody"),
                        Fact("Lent", lent_bar(row)),
                        Fact("Never lent", ", ".join(row.excluded)),
                        Fact("Resolvers", ", ".join(row.dns)),
                        Fact("Created", ago(row.created)),
                    ],
                    icon="lan",
                )
            ],
            tables=[
                Table(
                    "Held now",
                    ("Address", "Holder", "Project", "Since"),
                    [
                        [link(one), holder_now(one), link(one.project), ago(one.held_since)]
                        for one in held
                    ],
                    "All of its addresses are free.",
                    more_url=list_url(Address, f"?network__id__exact={row.pk}"),
                )
            ],
        )

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        def submit(data: dict[str, Any]) -> HttpResponse:
            pool = Pool(
                name=data["name"],
                cidr=data["cidr"],
                location=data["location"],
                excluded=tuple(data["excluded"].split()),
                dns=tuple(data["dns"].split()),
                mode=data["mode"],
                gateway=data["gateway"] or None,
                dhcp=data["dhcp"],
                owner=data["owner"],
            )
            network = ensure_pool(pool)
            self.log_addition(request, network, "Added.")
            return done(request, f"Pool {network} is added.", page_url(network))

        page = FormPage(
            title="Add a pool of public addresses",
            sections=(
                Section("Pool", ("name", "location", "owner", "cidr", "excluded", "dns")),
                Section("Connection", ("mode", "gateway", "dhcp")),
            ),
            button="Add",
            permission="networks.add_network",
            submit=submit,
            back=list_url(Network),
            icon="lan",
        )
        return answer_form(self, request, PoolForm(request.POST or None), page)

    def describe_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        network = self.get_object(request, str(pk))
        if network is None:
            raise Http404(f"There is no {self.opts.verbose_name} {pk} any more.")

        def submit(data: dict[str, Any]) -> HttpResponse:
            lists = {field: data[field].split() for field in ("excluded", "dns")}
            describe_pool(network, name=data["name"], **lists)
            self.log_change(request, network, "Changed its description.")
            return done(request, f"Pool {network} is saved.", page_url(network))

        known = {
            "name": network.name,
            "excluded": "\n".join(network.excluded),
            "dns": "\n".join(network.dns),
        }
        page = FormPage(
            title=f"Change {network.name}",
            sections=(Section("Pool", ("name", "excluded", "dns")),),
            button="Save",
            permission="networks.change_network",
            submit=submit,
            back=page_url(network),
            note="Its range stays as it is: addresses of it may be lent.",
        )
        return answer_form(self, request, PoolChangeForm(request.POST or None, initial=known), page)


def connection(network: Network) -> str:
    """How guests get to its addresses."""
    mode = network.get_mode_display()
    return f"{mode}, addresses by outside DHCP" if network.dhcp else mode


def lent_bar(network: Any) -> SafeString | str:
    """How much of the pool is lent; needs `with_use`."""
    total = usable(network)
    if network.dhcp:
        return "not by us"
    return bar(network.held_count, total, f"{network.held_count} of {total}")
