"""Actions: what was asked for, how far it is, and why it failed. Open ones come first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Case, QuerySet, Value, When
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import display

from cloud.admin.base import FactsAdmin
from cloud.admin.display import Tone, ago, badge, code, lasted, lines, link, live, stacked
from cloud.admin.page import Callout, Card, Cell, Fact, Page
from cloud.admin.resources import subjects
from cloud.admin.timeline import timeline_tables
from cloud.models import Action
from cloud.theme import flower_url

HEADERS = ("Request", "State", "About", "Started", "Took")


def open_count(request: HttpRequest) -> str:
    """The sidebar's badge: how much is under way, nothing if nothing is."""
    return str(Action.objects.open().count() or "")


def words(command: str) -> str:
    """`start_server` as a person says it."""
    return command.replace("_", " ").capitalize()


def action_badge(action: Action) -> SafeString:
    if action.status == Action.Status.SUCCESS:
        return badge("done", Tone.GOOD)
    if action.status == Action.Status.ERROR:
        return badge("failed", Tone.BAD, hint=action.error_message)
    if timezone.now() > action.deadline:
        return badge("overdue", Tone.WARN, moving=True)
    return badge("under way", Tone.BUSY, moving=True)


def duration(action: Action) -> str:
    return lasted((action.finished or timezone.now()) - action.started)


def action_rows(actions: Iterable[Action]) -> list[list[Cell]]:
    """Rows under HEADERS; needs `resources` prefetched."""
    actions = list(actions)
    about = subjects(actions)
    return [
        [
            link(action, words(action.command)),
            _with_reason(action),
            lines(about[action.pk]),
            ago(action.started),
            duration(action),
        ]
        for action in actions
    ]


@admin.register(Action)
class ActionAdmin(FactsAdmin):
    list_display = ("what", "state", "about", "project", "began", "took", "traced")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("project", RelatedDropdownFilter),
    )
    search_fields = ("command", "request_id", "error_message", "=resources__resource_id")
    search_help_text = "Command, request id, error or resource number"
    ordering = (
        Case(When(status="running", then=Value(0)), default=Value(1)).asc(),
        "-id",
    )
    empty_list = (
        "Nothing has been asked for yet",
        "Every request that changes a server shows up here, with its outcome.",
        "",
    )
    list_reload_seconds = 3

    def get_queryset(self, request: HttpRequest) -> QuerySet[Action]:
        actions: QuerySet[Action] = super().get_queryset(request)
        return actions.select_related("project").prefetch_related("resources")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        found = super().get_changelist_instance(request)
        about = subjects(found.result_list)
        for action in found.result_list:
            action.about = lines(about[action.pk])
        return found

    @display(description="Request", ordering="command")
    def what(self, action: Action) -> SafeString:
        return stacked(words(action.command), f"#{action.pk}")

    @display(description="State", ordering="status")
    def state(self, action: Action) -> SafeString:
        return live(f"state-{action.pk}", _with_reason(action))

    @display(description="About")
    def about(self, action: Action) -> SafeString:
        return action.about  # type: ignore[attr-defined, no-any-return]

    @display(description="Started", ordering="started")
    def began(self, action: Action) -> SafeString:
        return ago(action.started)

    @display(description="Took")
    def took(self, action: Action) -> SafeString:
        return live(f"took-{action.pk}", duration(action))

    @display(description="Request id")
    def traced(self, action: Action) -> SafeString:
        short = action.request_id[:12] + ("…" if len(action.request_id) > 12 else "")
        return format_html('<span title="{}">{}</span>', action.request_id, code(short))

    def page(self, request: HttpRequest, row: Action) -> Page:
        running = row.status == Action.Status.RUNNING
        return Page(
            title=words(row.command),
            icon="bolt",
            badges=[action_badge(row)],
            subtitle=lines(subjects([row])[row.pk]),
            callouts=_callouts(row),
            cards=[
                Card(
                    "Course",
                    [
                        Fact("Started", ago(row.started)),
                        Fact("Finished", ago(row.finished) if row.finished else "not yet"),
                        Fact("Took" if row.finished else "Takes so far", duration(row)),
                        Fact("Progress", f"{row.progress} %"),
                        Fact("Fails by itself", ago(row.deadline) if running else None),
                    ],
                    icon="schedule",
                ),
                Card(
                    "Request",
                    [
                        Fact("Project", link(row.project)),
                        Fact("Command", code(row.command)),
                        Fact("Waits for", _aim(row), "Which observation of the host ends it."),
                        Fact("Request id", code(row.request_id), "Find it in every log."),
                        Fact("Tasks", _tasks(request, row), "What its messages asked of hosts."),
                        Fact("Number", code(row.pk), "As the API and its clients name it."),
                    ],
                    icon="receipt_long",
                ),
            ],
            tables=timeline_tables(row),
            reload_seconds=2 if running else 0,
        )


def _callouts(action: Action) -> list[Callout]:
    if action.status != Action.Status.ERROR:
        return []
    text = format_html("{} {}", action.error_message, code(action.error_code))
    return [Callout(Tone.BAD, "This failed", text)]


def _tasks(request: HttpRequest, action: Action) -> SafeString | None:
    """The way to this request's tasks; None if the cloud runs no Flower, or no request made it."""
    url = flower_url(request)
    if not url or not action.request_id:
        return None
    query = urlencode({"request_id": action.request_id})
    return format_html('<a class="c-link" href="{}?{}">Tasks in Flower</a>', url, query)


def _aim(action: Action) -> str:
    return f"{action.goal}, generation {action.generation}"


def _with_reason(action: Action) -> SafeString:
    """The state, and below it why it failed."""
    if action.status != Action.Status.ERROR:
        return action_badge(action)
    return format_html(
        '{}<small class="c-reason" title="{}">{}</small>',
        action_badge(action),
        action.error_code,
        action.error_message,
    )
