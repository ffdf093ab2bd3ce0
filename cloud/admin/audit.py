"""The audit trail: who did what, to what, and what it was before. To read, never to change."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display

from cloud import snapshots
from cloud.admin.base import FactsAdmin
from cloud.admin.display import (
    NOTHING,
    Tone,
    ago,
    badge,
    code,
    faint,
    labels,
    link,
    list_url,
    stacked,
)
from cloud.admin.page import Card, Cell, Fact, Page, Table
from cloud.models import Action, AuditEntry

_DELETIONS = ("delete", "gone", "revoke", "retire", "give_up", "refuse")


class VerbFilter(DropdownFilter):
    title = "verb"
    parameter_name = "verb"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(verb, verb) for verb in snapshots.verbs()]

    def queryset(self, request: HttpRequest, entries: QuerySet[AuditEntry]) -> Any:
        return entries.filter(verb=self.value()) if self.value() else entries


class ResourceFilter(DropdownFilter):
    title = "object"
    parameter_name = "resource_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, kind.replace("_", " ")) for kind in snapshots.kinds()]

    def queryset(self, request: HttpRequest, entries: QuerySet[AuditEntry]) -> Any:
        return entries.filter(resource_type=self.value()) if self.value() else entries


@admin.register(AuditEntry)
class AuditAdmin(FactsAdmin):
    list_display = ("what", "about", "who", "fields_", "project", "when", "traced")
    list_filter = (("actor_kind", ChoicesDropdownFilter), VerbFilter, ResourceFilter)
    search_fields = ("request_id__exact", "resource_name", "actor_name")
    search_help_text = "Request id, name or actor"
    ordering = ("-id",)
    empty_list = (
        "Nothing has been changed yet",
        "Every change leaves an entry here: who did it, what it was before, and by which request.",
        "",
    )

    @display(description="What", ordering="verb")
    def what(self, entry: AuditEntry) -> SafeString:
        return verb_badge(entry)

    @display(description="Object", ordering="resource_name")
    def about(self, entry: AuditEntry) -> SafeString:
        return stacked(entry.resource_name, _subject(entry))

    @display(description="Who", ordering="actor_name")
    def who(self, entry: AuditEntry) -> SafeString:
        return stacked(entry.actor_name, entry.actor_kind)

    @display(description="Changed")
    def fields_(self, entry: AuditEntry) -> SafeString:
        return _summary(entry)

    @display(description="Project", ordering="project_name")
    def project(self, entry: AuditEntry) -> str | SafeString:
        return entry.project_name or NOTHING

    @display(description="When", ordering="at")
    def when(self, entry: AuditEntry) -> SafeString:
        return ago(entry.at)

    @display(description="Request id")
    def traced(self, entry: AuditEntry) -> SafeString:
        return _request(entry, entry.request_id[:12] + "…" * (len(entry.request_id) > 12))

    def page(self, request: HttpRequest, row: AuditEntry) -> Page:
        return Page(
            title=row.resource_name,
            icon="policy",
            badges=[verb_badge(row)],
            subtitle=format_html("{} by {} {}", ago(row.at), row.actor_name, _kind(row)),
            cards=[
                Card(
                    "Who",
                    [
                        Fact("Name", row.actor_name),
                        Fact("Kind", row.actor_kind),
                        Fact("Number", code(row.actor_id) if row.actor_id is not None else None),
                        Fact("Request id", _request(row, row.request_id), "Find it in every log."),
                        Fact("Action", _action(row), "What the user polled."),
                    ],
                    icon="person",
                ),
                Card(
                    "What",
                    [
                        Fact("Verb", code(row.verb)),
                        Fact("Object", _subject(row)),
                        Fact("Name", row.resource_name, "At that time."),
                        Fact("Project", row.project_name),
                        Fact("Time", ago(row.at)),
                    ],
                    icon="edit_note",
                    note="Entries outlive what they name. The database refuses to change or"
                    " delete them.",
                ),
            ],
            tables=[_changes(row), _same_request(row), _same_object(row)],
            history=False,
        )


def verb_badge(entry: AuditEntry) -> SafeString:
    verb = entry.verb.partition(".")[2]
    tone = Tone.GOOD if entry.before is None else Tone.BAD if verb in _DELETIONS else Tone.BUSY
    return badge(entry.verb, tone)


def _kind(entry: AuditEntry) -> SafeString:
    return faint(f"({entry.actor_kind})")


def _subject(entry: AuditEntry) -> str:
    return f"{entry.resource_type.replace('_', ' ')} #{entry.resource_id}"


def _summary(entry: AuditEntry) -> SafeString:
    """The names of what changed, if it is not everything."""
    if entry.before is None:
        return faint("is new")
    if entry.after is None:
        return faint("is gone")
    return mark_safe(" ".join(code(name) for name in entry.after)) if entry.after else NOTHING


def _request(entry: AuditEntry, shown: str) -> SafeString:
    """The request's id, as a link to all that it changed."""
    if not entry.request_id:
        return NOTHING
    url, whole = list_url(AuditEntry, f"?q={quote(entry.request_id)}"), entry.request_id
    return format_html('<a class="c-link" href="{}" title="{}">{}</a>', url, whole, code(shown))


def _action(entry: AuditEntry) -> SafeString | None:
    if entry.action_id is None:
        return None
    action = Action.objects.filter(pk=entry.action_id).first()
    return link(action, str(action)) if action else faint(f"#{entry.action_id}, gone")


def _changes(entry: AuditEntry) -> Table:
    before, after = entry.before or {}, entry.after or {}
    rows: list[list[Cell]] = [
        [
            format_html('<code class="c-code c-name">{}</code>', name),
            _shown(before[name]) if name in before else NOTHING,
            _shown(after[name]) if name in after else NOTHING,
        ]
        for name in sorted(after if entry.before is None else before)
    ]
    return Table("Before and after", ("Field", "Before", "After"), rows, "No field shows it.")


def _shown(value: Any) -> SafeString | str:
    match value:
        case None:
            return faint("none")
        case bool():
            return "yes" if value else "no"
        case "" | [] | dict() if not value:
            return faint("empty")
        case {"id": pk, "name": name, **rest} if not rest:
            return format_html("{} {}", name or "", faint(f"#{pk}"))
        case dict() if not any(isinstance(inner, dict | list) for inner in value.values()):
            return labels(value)
        case list() | dict():
            return format_html('<pre class="c-value">{}</pre>', json.dumps(value, indent=2))
        case _:
            return format_html('<span class="c-value">{}</span>', value)


def _same_request(entry: AuditEntry) -> Table:
    others = AuditEntry.objects.filter(request_id=entry.request_id).exclude(pk=entry.pk)
    found = _rows(others) if entry.request_id else []
    more = list_url(AuditEntry, f"?q={quote(entry.request_id)}")
    empty = "It changed nothing else." if entry.request_id else "There was no request."
    return Table("By the same request", _HEADERS, found, empty, more_url=more)


def _same_object(entry: AuditEntry) -> Table:
    same = {"resource_type": entry.resource_type, "resource_id": entry.resource_id}
    others = AuditEntry.objects.filter(**same).exclude(pk=entry.pk)
    empty = "Nothing else happened to it."
    return Table("What else happened to it", _HEADERS, _rows(others), empty)


_HEADERS = ("What", "Object", "Who", "Changed", "When")


def _rows(entries: QuerySet[AuditEntry]) -> list[list[Cell]]:
    return [
        [
            link(entry, entry.verb),
            stacked(entry.resource_name, _subject(entry)),
            stacked(entry.actor_name, entry.actor_kind),
            _summary(entry),
            ago(entry.at),
        ]
        for entry in entries[:20]
    ]
