"""The admin of the address ledger: who holds which address, and who held it when."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import display

from cloud.admin.base import FactsAdmin
from cloud.admin.display import NOTHING, Tone, ago, badge, code, faint, lasted, link, stacked
from cloud.admin.page import Card, Cell, Fact, Page, Table
from networks.models import Address, Tenure

_TONES = {
    Address.State.HELD: Tone.GOOD,
    Address.State.QUARANTINE: Tone.WARN,
    Address.State.RELEASED: Tone.IDLE,
}
_QUARANTINE = "Its host has not proved yet that nothing uses it any more."


@admin.register(Address)
class AddressAdmin(FactsAdmin):
    list_display = ("title", "state_", "holder", "project", "since", "until", "lasted")
    list_filter = (
        ("state", ChoicesDropdownFilter),
        ("network", RelatedDropdownFilter),
        ("project", RelatedDropdownFilter),
    )
    search_fields = ("^ip", "tenures__server_name", "tenures__holder_name")
    search_help_text = "Address, or the name of a server or IP that had it"
    ordering = ("ip", "-held_since")
    empty_list = (
        "No address has been lent yet",
        "Every address that a server gets is written here, with its holder and its times.",
        "",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Address]:
        return current_holders(Address.objects.all())

    @display(description="Address", ordering="ip")
    def title(self, address: Address) -> SafeString:
        return stacked(code(address), address.network.name)

    @display(description="State", ordering="state")
    def state_(self, address: Address) -> SafeString:
        return lending_badge(address)

    @display(description="Holder")
    def holder(self, address: Address) -> Cell:
        return holder_now(address)

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
        tenures = Tenure.objects.filter(address__ip=row.ip).order_by("-since", "-pk")[:100]
        return Page(
            title=str(row),
            icon="pin_drop",
            badges=[lending_badge(row)],
            subtitle=holder_now(row),
            cards=[
                Card(
                    "Lending",
                    [
                        Fact("Network", link(row.network)),
                        Fact("Project", link(row.project)),
                        Fact("Holder", holder_now(row)),
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
                    ("Since", "Until", "For", "Project", "As", "Server", "Host"),
                    [_told(one) for one in tenures],
                    "Nobody.",
                )
            ],
        )


def current_holders(addresses: QuerySet[Address]) -> QuerySet[Address]:
    """With what `holder_now` shows."""
    newest = Tenure.objects.order_by("-since", "-pk")
    return addresses.select_related(
        "network", "project", "primaryip", "floatingip"
    ).prefetch_related(Prefetch("tenures", queryset=newest))


def lending_badge(address: Address) -> SafeString:
    state = Address.State(address.state)
    hint = _QUARANTINE if state is Address.State.QUARANTINE else ""
    return badge(state.label.lower(), _TONES[state], hint=hint)


def holder_now(address: Address) -> Cell:
    """Who has the address, or had it last; as a link while that IP exists."""
    ip = getattr(address, "primaryip", None) or getattr(address, "floatingip", None)
    last = next(iter(address.tenures.all()), None)
    if last is None:
        return link(ip)
    return format_html("{} {}", link(ip) if ip else last.holder_name, faint(_server(last)))


def held_for(address: Address) -> str:
    return lasted((address.released_at or timezone.now()) - address.held_since)


def _told(tenure: Tenure) -> list[Cell]:
    kind = tenure.holder_type.replace("_ip", " IP")
    named = f"{kind} {tenure.holder_name}" if tenure.holder_name else kind
    until = tenure.until or timezone.now()
    return [
        ago(tenure.since),
        ago(tenure.until) if tenure.until else "now",
        lasted(until - tenure.since),
        tenure.project_name or NOTHING,
        f"{named} #{tenure.holder_id}" if tenure.holder_id else named,
        _server(tenure),
        tenure.host_name or NOTHING,
    ]


def _server(tenure: Tenure) -> str:
    if not tenure.server_name:
        return "no server"
    return f"server {tenure.server_name} #{tenure.server_id}"
