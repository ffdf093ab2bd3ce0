"""Drift: what hosts have too many or too few of, the quarantine among it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter, RelatedDropdownFilter
from unfold.decorators import display

from cloud.admin.base import FactsAdmin
from cloud.admin.display import (
    NOTHING,
    Tone,
    ago,
    badge,
    code,
    faint,
    lasted,
    link,
    stacked,
)
from cloud.admin.operations import Effect, Operation
from cloud.admin.page import Callout, Card, Fact, Page
from cloud.drift import MISSING, QUARANTINE, Drift
from vms.drift import repair
from vms.drift.spec import Kind
from vms.drift.table import words_of
from vms.drift.treatment import Verb
from vms.models import VM

_AGES = {"60": "a minute", "600": "ten minutes", "3600": "an hour", "86400": "a day"}


def standing_count(request: HttpRequest) -> str:
    """For the sidebar; nothing to see is said by no number."""
    count = Drift.objects.standing().count()
    return str(count) if count else ""


class KindFilter(DropdownFilter):
    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(kind), str(kind)) for kind in Kind]

    def queryset(self, request: HttpRequest, rows: QuerySet[Drift]) -> Any:
        return rows.filter(kind=self.value()) if self.value() else rows


class AgeFilter(DropdownFilter):
    title = "older than"
    parameter_name = "older_than"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(_AGES.items())

    def queryset(self, request: HttpRequest, rows: QuerySet[Drift]) -> Any:
        value = self.value()
        if value not in _AGES:
            return rows
        return rows.filter(first_seen__lt=timezone.now() - timedelta(seconds=int(value)))


class StateFilter(DropdownFilter):
    """Without a choice, those that stand."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("quarantined", "In quarantine"),
            ("kept", "Marked as known"),
            ("closed", "Vanished"),
        ]

    def queryset(self, request: HttpRequest, rows: Any) -> Any:
        return rows.in_state(self.value())


def _keep(row: Drift) -> str:
    repair.keep(row)
    return f"{row} is marked as known, and listed no more."


def _watch(row: Drift) -> str:
    repair.watch(row)
    return f"{row} is listed again."


def _effect(row: Drift) -> Effect:
    verb = Verb(row.verb)
    if row.closed_at:
        return Effect("has vanished by itself")
    if not verb.repairs:
        return Effect(f"stays: {row.reason}", Tone.WARN)
    if verb.removes and not row.confirmed:
        return Effect("was seen only once, and must be seen again first", Tone.WARN)
    orders = repair.plan([row])
    return Effect(f"{orders[0]}: {row.reason}", Tone.BAD if verb.removes else Tone.IDLE)


_OPERATIONS = (
    Operation(
        name="repair",
        verb="Repair",
        icon="build",
        permission="cloud.change_drift",
        explanation="Hosts get the documents of what they lack again, and remove only what they"
        " prove to be their own and of a server that was deleted. Data, and whatever the inventory"
        " does not know, is never touched.",
        effect=_effect,
        run=repair.repair,
        offered=lambda row: row.closed_at is None and Verb(row.verb).repairs,
    ),
    Operation(
        name="keep",
        verb="Mark as known",
        icon="bookmark",
        permission="cloud.change_drift",
        explanation="You know what it is: it stays on its host, and is listed no more.",
        effect=lambda row: Effect("is known already" if row.kept_at else "leaves the list"),
        run=_keep,
        offered=lambda row: row.closed_at is None and row.kept_at is None,
    ),
    Operation(
        name="watch",
        verb="List it again",
        icon="visibility",
        permission="cloud.change_drift",
        explanation="It counts as drift again as long as its host has it.",
        effect=lambda row: Effect("comes back to the list" if row.kept_at else "is listed already"),
        run=_watch,
        offered=lambda row: row.kept_at is not None,
    ),
)


@admin.register(Drift)
class DriftAdmin(FactsAdmin):
    list_display = ("what", "side", "where", "whose", "age", "done")
    list_filter = (("host", RelatedDropdownFilter), KindFilter, AgeFilter, StateFilter)
    search_fields = ("name", "host__name", "uuid")
    search_help_text = "Name of the thing, host, or a server's UUID"
    ordering = ("first_seen", "id")
    operations = _OPERATIONS
    empty_list = (
        "No drift",
        "Hosts have just what the inventory says: neither too much nor too little. They say so"
        " whenever something changes, and every few minutes; what hosts heal by themselves within"
        " seconds is seldom seen here.",
        "manage.py drift",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Drift]:
        rows: QuerySet[Drift] = super().get_queryset(request)
        server = VM.objects.filter(pk=OuterRef("server_id"), host=OuterRef("host"))
        named: QuerySet[Drift] = rows.annotate(server_name=Subquery(server.values("name")[:1]))
        return named.select_related("host")

    @display(description="Difference", ordering="kind")
    def what(self, row: Drift) -> SafeString:
        return stacked(format_html("<b>{}</b>", row.name), row.detail or row.kind)

    @display(description="Side", ordering="direction")
    def side(self, row: Drift) -> SafeString:
        return _side(row)

    @display(description="Host", ordering="host__name")
    def where(self, row: Drift) -> SafeString:
        return link(row.host)

    @display(description="Of")
    def whose(self, row: Drift) -> SafeString:
        return _owner(row)

    @display(description="Age", ordering="first_seen")
    def age(self, row: Drift) -> str | SafeString:
        return _age(row)

    @display(description="Would be done", ordering="verb")
    def done(self, row: Drift) -> SafeString:
        return _treatment(row)

    def page(self, request: HttpRequest, row: Drift) -> Page:
        return Page(
            title=row.name,
            icon="difference",
            badges=[_side(row), _treatment(row)],
            subtitle=format_html("{} on {}", row.kind, link(row.host)),
            callouts=_callouts(row),
            cards=[
                Card(
                    "Difference",
                    [
                        Fact("Kind", row.kind),
                        Fact("Side", row.get_direction_display()),
                        Fact("Detail", row.detail or None),
                        Fact("Of", _owner(row), "By its name, which proves nothing."),
                        Fact("Server's UUID", code(row.uuid) if row.uuid else None),
                        Fact("Seen first", ago(row.first_seen)),
                        Fact("Seen last", ago(row.last_seen), "When its host looked."),
                        Fact("Repair ordered", ago(row.repaired_at) if row.repaired_at else None),
                        Fact("Vanished", ago(row.closed_at) if row.closed_at else None),
                        Fact("Known since", ago(row.kept_at) if row.kept_at else None),
                    ],
                    icon="difference",
                ),
            ],
            reload_seconds=5,
        )


def _callouts(row: Drift) -> list[Callout]:
    if row.closed_at:
        return [Callout(Tone.GOOD, "It has vanished", "Its host is as the inventory says again.")]
    if row.kept_at:
        return [Callout(Tone.IDLE, "Marked as known", "It stays, and is listed no more.")]
    if row.verb == QUARANTINE:
        return [
            Callout(
                Tone.WARN,
                "In quarantine",
                f"{_sentence(row.reason)}. Nothing of ours touches it. If it belongs there, mark it"
                " as known; if not, remove it on its host.",
            )
        ]
    if row.verb == Verb.NOTHING:
        return [Callout(Tone.BAD, "It is not repaired", f"{_sentence(row.reason)}.")]
    return [Callout(Tone.BUSY, "It can be repaired", f"{_sentence(words_of(row))}.")]


def _side(row: Drift) -> SafeString:
    if row.direction == MISSING:
        return badge("missing", Tone.BAD, hint="The inventory has it, its host has not.")
    return badge("extra", Tone.WARN, hint="Its host has it, the inventory has not.")


def _treatment(row: Drift) -> SafeString:
    if row.closed_at:
        return badge("vanished", Tone.GOOD)
    if row.kept_at:
        return badge("known", Tone.IDLE)
    verb = Verb(row.verb)
    if verb is Verb.QUARANTINE:
        return badge("quarantine", Tone.UNSURE, hint=row.reason)
    if verb is Verb.NOTHING:
        return badge("nothing", Tone.BAD, hint=row.reason)
    return badge("removal" if verb.removes else "repair", Tone.BUSY, hint=row.reason)


def _owner(row: Any) -> SafeString:
    """`server_name` is None where the inventory has no such server on this host."""
    if row.server_id is not None and row.server_name is None:
        return faint(f"server #{row.server_id}, not here by the inventory")
    if row.server_id is not None:
        return link(VM(pk=row.server_id), row.server_name)
    return faint(f"network #{row.network_id}") if row.network_id is not None else NOTHING


def _age(row: Drift) -> str | SafeString:
    if row.closed_at:
        return ago(row.closed_at)
    age = lasted(timezone.now() - row.first_seen)
    return age if row.confirmed else stacked(age, "seen once")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
