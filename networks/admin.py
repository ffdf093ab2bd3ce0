"""The admin of networks and of the address ledger: who holds what, and who held it when."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RadioFilter, RelatedDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from cloud.admin.access import CatalogueAdmin
from cloud.admin.base import FactsAdmin
from cloud.admin.display import Tone, ago, badge, bar, code, lasted, link, list_url, stacked
from cloud.admin.page import Card, Fact, Page, Table
from networks.models import Address, Network


class AddressLines(forms.CharField):
    """Addresses, one a line, stored as a list."""

    widget = UnfoldAdminTextareaWidget(attrs={"rows": 3})

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]
        try:
            return [str(ip_address(word)) for word in (value or "").split()]
        except ValueError as error:
            raise ValidationError(str(error)) from error

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value


class NetworkForm(forms.ModelForm):  # type: ignore[type-arg]
    """A pool; the database refuses ranges that overlap."""

    excluded = AddressLines(required=False, help_text="Never lent; one address a line.")
    dns = AddressLines(
        required=False, label="DNS", help_text="Resolvers handed to guests; one address a line."
    )

    class Meta:
        model = Network
        fields = ("name", "location", "ip_range", "excluded", "dns")


@admin.register(Network)
class NetworkAdmin(CatalogueAdmin):
    form = NetworkForm
    list_display = ("title", "range", "lent", "kind", "location", "resolvers", "made")
    list_filter = (("location", RelatedDropdownFilter),)
    list_select_related = ("location",)
    search_fields = ("name", "location__name")
    empty_list = (
        "No networks yet",
        "A public network is a pool of addresses that servers borrow one by one.",
        "manage.py pool_add NAME 198.51.100.0/24 --location LOCATION",
    )
    add_label = "Add a pool"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Network]:
        return Network.objects.with_use()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Addresses of the range may be lent already.
        return ("ip_range", "location") if obj else ()

    @display(description="Network", ordering="name")
    def title(self, network: Network) -> SafeString:
        return format_html("<b>{}</b>", network.name)

    @display(description="Range", ordering="ip_range")
    def range(self, network: Network) -> SafeString:
        return code(network.ip_range)

    @display(description="Lent", ordering="held_count")
    def lent(self, network: Any) -> SafeString:
        url = list_url(Address, f"?network__id__exact={network.pk}&held=yes")
        total = usable(network)
        shown = bar(network.held_count, total, f"{network.held_count} of {total}")
        return format_html('<a href="{}">{}</a>', url, shown)

    @display(description="DNS")
    def resolvers(self, network: Network) -> str:
        return ", ".join(network.dns) or "none"

    @display(description="Created", ordering="created")
    def made(self, network: Network) -> SafeString:
        return ago(network.created)


def usable(network: Network) -> int:
    """Addresses that can be lent at most: all but network, broadcast and the excluded ones."""
    total: int = network.ip_range.num_addresses
    inside = sum(ip_address(text) in network.ip_range for text in network.excluded)
    return max(total - 2 - inside, 0)


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
