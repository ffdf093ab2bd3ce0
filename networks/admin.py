"""The admin of networks and of the address ledger: who holds what, and who held it when."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RadioFilter, RelatedDropdownFilter
from unfold.decorators import display

from cloud.admin.base import FactsAdmin
from cloud.admin.display import (
    Tone,
    ago,
    badge,
    bar,
    code,
    lasted,
    link,
    list_url,
    page_url,
    stacked,
)
from cloud.admin.forms import FormPage, OrderForm, Section, answer_form, done
from cloud.admin.page import Card, Fact, Page, Table
from cloud.models import Location
from networks.models import Address, Network
from networks.pools import Pool, describe_pool, ensure_pool, usable


class PoolChangeForm(OrderForm):
    name = forms.CharField(max_length=128, widget=forms.TextInput(attrs={"placeholder": "public"}))
    excluded = forms.CharField(
        required=False,
        label="Never lent",
        help_text="Addresses of the range, one a line: routers, for example.",
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
        label="Range", widget=forms.TextInput(attrs={"placeholder": "198.51.100.0/24"})
    )
    location = forms.ModelChoiceField(Location.objects.all(), empty_label=None)


@admin.register(Network)
class NetworkAdmin(FactsAdmin):
    list_display = ("title", "range", "lent", "kind", "where", "resolvers", "made")
    list_filter = (("location", RelatedDropdownFilter),)
    search_fields = ("name", "location__name")
    search_help_text = "Name or location"
    empty_list = (
        "No networks yet",
        "A public network is a pool of addresses that servers borrow one by one.",
        "manage.py pool_add NAME 198.51.100.0/24 --location LOCATION",
    )
    add_label = "Add a pool"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("networks.add_network")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Network]:
        return Network.objects.with_use().select_related("location").order_by("name")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.describe_view)
        describe = path("<int:pk>/describe/", view, name="networks_network_describe")
        return [describe, *super().get_urls()]

    def buttons(self, request: HttpRequest, row: Any) -> list[dict[str, Any]]:
        if not request.user.has_perm("networks.change_network"):
            return []
        url = reverse("admin:networks_network_describe", args=[row.pk])
        return [{"verb": "Change", "icon": "edit", "dangerous": False, "url": url}]

    @display(description="Network", ordering="name")
    def title(self, network: Network) -> SafeString:
        return format_html("<b>{}</b>", network.name)

    @display(description="Range", ordering="ip_range")
    def range(self, network: Network) -> SafeString:
        return code(network.ip_range)

    @display(description="Lent", ordering="held_count")
    def lent(self, network: Any) -> SafeString:
        return lent_bar(network)

    @display(description="Location", ordering="location")
    def where(self, network: Network) -> SafeString:
        return link(network.location)

    @display(description="Resolvers")
    def resolvers(self, network: Network) -> str:
        return ", ".join(network.dns) or "none"

    @display(description="Created", ordering="created")
    def made(self, network: Network) -> SafeString:
        return ago(network.created)

    def page(self, request: HttpRequest, row: Any) -> Page:
        held = row.addresses.held().select_related("project", "nic__vm").order_by("ip")[:100]
        return Page(
            title=row.name,
            icon="lan",
            subtitle=format_html("{} in {}", code(row.ip_range), link(row.location)),
            cards=[
                Card(
                    "Pool",
                    [
                        Fact("Kind", row.get_kind_display()),
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
                        [link(one), holder(one), link(one.project), ago(one.held_since)]
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
            )
            network = ensure_pool(pool)
            self.log_addition(request, network, "Added.")
            return done(request, f"Pool {network} is added.", page_url(network))

        page = FormPage(
            title="Add a pool of public addresses",
            sections=(Section("Pool", ("name", "location", "cidr", "excluded", "dns")),),
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


def lent_bar(network: Any) -> SafeString:
    """How much of the pool is lent; needs `with_use`."""
    total = usable(network)
    return bar(network.held_count, total, f"{network.held_count} of {total}")


class HeldFilter(RadioFilter):
    title = "lending"
    parameter_name = "held"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Held now"), ("no", "Given back")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Address]) -> QuerySet[Address]:
        if self.value() == "yes":
            return queryset.filter(released_at=None)
        if self.value() == "no":
            return queryset.exclude(released_at=None)
        return queryset


@admin.register(Address)
class AddressAdmin(FactsAdmin):
    list_display = ("title", "state", "holder_", "project", "since", "until", "lasted")
    list_filter = (
        HeldFilter,
        ("network", RelatedDropdownFilter),
        ("project", RelatedDropdownFilter),
    )
    search_fields = ("^ip", "holder")
    search_help_text = "Address or holder"
    ordering = ("ip", "-held_since")
    empty_list = (
        "No address has been lent yet",
        "Every address that a server gets is written here, with its holder and its times.",
        "",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Address]:
        return Address.objects.select_related("network", "project", "nic__vm")

    @display(description="Address", ordering="ip")
    def title(self, address: Address) -> SafeString:
        return stacked(code(address.ip), address.network.name)

    @display(description="State", ordering="released_at")
    def state(self, address: Address) -> SafeString:
        return lending_badge(address)

    @display(description="Holder", ordering="holder")
    def holder_(self, address: Address) -> SafeString | str:
        return holder(address)

    @display(description="Since", ordering="held_since")
    def since(self, address: Address) -> SafeString:
        return ago(address.held_since)

    @display(description="Until", ordering="released_at")
    def until(self, address: Address) -> SafeString:
        return ago(address.released_at)

    @display(description="Held for")
    def lasted(self, address: Address) -> str:
        return held_for(address)

    def page(self, request: HttpRequest, row: Address) -> Page:
        others = Address.objects.filter(ip=row.ip).select_related("project", "nic__vm")
        lendings = others.order_by("-held_since")[:50]
        return Page(
            title=str(row.ip),
            icon="pin_drop",
            badges=[lending_badge(row)],
            subtitle=holder(row),
            cards=[
                Card(
                    "Lending",
                    [
                        Fact("Network", link(row.network)),
                        Fact("Project", link(row.project)),
                        Fact("Holder", holder(row)),
                        Fact("Since", ago(row.held_since)),
                        Fact("Until", ago(row.released_at)),
                        Fact("Held for", held_for(row)),
                    ],
                    icon="pin_drop",
                    note="An address is given back only after its host proved that nothing uses"
                    " it any more.",
                )
            ],
            tables=[
                Table(
                    "Who held it when",
                    ("Holder", "Project", "Since", "Until", "Held for"),
                    [
                        [
                            holder(one),
                            link(one.project),
                            ago(one.held_since),
                            ago(one.released_at),
                            held_for(one),
                        ]
                        for one in lendings
                    ],
                    "Nobody.",
                )
            ],
        )


def lending_badge(address: Address) -> SafeString:
    if address.released_at:
        return badge("given back", Tone.IDLE)
    return badge("held", Tone.GOOD)


def holder(address: Address) -> SafeString | str:
    """The server that has the address, as a link while it exists; else the ledger's words."""
    nic = getattr(address, "nic", None)
    return link(nic.vm) if nic else address.holder


def held_for(address: Address) -> str:
    return lasted((address.released_at or timezone.now()) - address.held_since)
