"""Dead letters: messages that nobody could take, why, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display

from cloud.admin.activity import HEADERS, action_rows
from cloud.admin.base import FactsAdmin
from cloud.admin.display import (
    NOTHING,
    Tone,
    ago,
    badge,
    byte_size,
    code,
    faint,
    link,
    list_url,
    stacked,
)
from cloud.admin.operations import Effect, Operation
from cloud.admin.page import Callout, Card, Fact, Page, Table
from cloud.models import Action, DeadLetter, Host
from networks.models import PrivateNetwork
from vms import dead_letters
from vms.models import VM, Image

_RESOURCES: dict[str, type[VM] | type[PrivateNetwork] | type[Image]] = {
    "server": VM,
    "network": PrivateNetwork,
    "image": Image,
}


def _asking_again(letter: DeadLetter) -> Effect:
    if not dead_letters.can_be_asked_again(letter):
        return Effect("Nothing: it is not known what it was about.", Tone.WARN)
    return Effect(
        f"{letter.host or 'Its host'} is told what {letter.resource_type} #{letter.resource_id}"
        " should be now, not what it should have been then."
    )


def _ask_again(letter: DeadLetter) -> str:
    dead_letters.ask_again(letter)
    return f"Asked again for what {letter} was about."


def _forget(letter: DeadLetter) -> str:
    said = f"Forgot {letter}."
    dead_letters.forget(letter)
    return said


class _Values(DropdownFilter):
    """Letters with one of the values that occur."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        letters = DeadLetter.objects.exclude(**{self.parameter_name: ""}).order_by()
        values = letters.values_list(self.parameter_name, flat=True).distinct()
        return [(value, value) for value in sorted(values)]

    def queryset(self, request: HttpRequest, letters: QuerySet[DeadLetter]) -> Any:
        return letters.filter(**{self.parameter_name: self.value()}) if self.value() else letters


class QueueFilter(_Values):
    title = "queue"
    parameter_name = "queue"


class AboutFilter(_Values):
    title = "kind of object"
    parameter_name = "resource_type"


@admin.register(DeadLetter)
class DeadLetterAdmin(FactsAdmin):
    list_display = ("what", "why", "about", "where", "times", "ended", "when", "traced")
    list_filter = (
        ("reason", ChoicesDropdownFilter),
        QueueFilter,
        AboutFilter,
    )
    search_fields = ("request_id__exact", "task", "host", "explanation", "=resource_id")
    search_help_text = "Request id, task, host, reason or resource number"
    ordering = ("-last_at", "-id")
    empty_list = (
        "No message has died",
        "What a host or control could not take shows up here, with the reason and what it was"
        " about.",
        "",
    )
    operations = (
        Operation(
            name="again",
            verb="Ask again",
            icon="refresh",
            permission="cloud.change_deadletter",
            explanation="The host is told anew, as the sweep would do later.",
            effect=_asking_again,
            run=_ask_again,
            offered=dead_letters.can_be_asked_again,
        ),
        Operation(
            name="forget",
            verb="Forget",
            icon="delete",
            permission="cloud.delete_deadletter",
            explanation="The letter is deleted. Nothing else changes: its Actions have ended.",
            effect=lambda letter: Effect("is forgotten.", Tone.WARN),
            run=_forget,
            dangerous=True,
        ),
    )

    @display(description="Message", ordering="task")
    def what(self, letter: DeadLetter) -> SafeString:
        return stacked(letter.task or "no task", f"#{letter.pk}")

    @display(description="Reason", ordering="reason")
    def why(self, letter: DeadLetter) -> SafeString:
        return format_html(
            '{}<small class="c-reason" title="{}">{}</small>',
            _reason(letter),
            letter.explanation,
            letter.explanation,
        )

    @display(description="About")
    def about(self, letter: DeadLetter) -> SafeString:
        return _about(letter)

    @display(description="Queue", ordering="queue")
    def where(self, letter: DeadLetter) -> SafeString:
        return stacked(letter.queue, letter.sender and f"from {letter.sender}")

    @display(description="Actions ended")
    def ended(self, letter: DeadLetter) -> int | SafeString:
        return len(letter.actions) or NOTHING

    @display(description="Last", ordering="last_at")
    def when(self, letter: DeadLetter) -> SafeString:
        return ago(letter.last_at)

    @display(description="Request id")
    def traced(self, letter: DeadLetter) -> SafeString:
        return _request(letter, letter.request_id[:12] + "…" * (len(letter.request_id) > 12))

    def page(self, request: HttpRequest, row: DeadLetter) -> Page:
        again = ago(row.asked_again_at) if row.asked_again_at else None
        return Page(
            title=row.task or "A message without a task",
            icon="mark_email_unread",
            badges=[_reason(row)],
            subtitle=format_html("last {}, in queue {}", ago(row.last_at), code(row.queue)),
            callouts=[Callout(Tone.BAD, "Nobody could take this", row.explanation)],
            cards=[
                Card(
                    "What died",
                    [
                        Fact("Task", code(row.task) if row.task else ""),
                        Fact("About", _about(row)),
                        Fact("Generation", row.generation),
                        Fact("Size", byte_size(row.bytes)),
                        Fact("Request id", _request(row, row.request_id), "Find it in every log."),
                    ],
                    icon="mail",
                ),
                Card(
                    "How",
                    [
                        Fact("Queue", code(row.queue)),
                        Fact("Host", _host(row)),
                        Fact("Sender", row.sender, "The broker verified it."),
                        Fact("Deliveries", row.deliveries or None, "Tries before it died."),
                        Fact("Times", row.times, "Letters alike are one row."),
                        Fact("First", ago(row.at)),
                        Fact("Asked again", again),
                    ],
                    icon="history",
                    note="A message is only a hint: what should be stands in the inventory, and the"
                    " sweep tells hosts again.",
                ),
            ],
            tables=[
                Table(
                    "Actions that it ended",
                    HEADERS,
                    action_rows(_actions(row)),
                    "Nothing waited for it.",
                ),
                Table(
                    "Excerpt, without secrets",
                    ("Body",),
                    [[format_html('<pre class="c-value">{}</pre>', row.excerpt)]],
                    "",
                ),
            ],
            history=False,
        )


def _reason(letter: DeadLetter) -> SafeString:
    return badge(letter.get_reason_display(), Tone.BAD)


def _actions(letter: DeadLetter) -> Iterable[Action]:
    return Action.objects.filter(pk__in=letter.actions).prefetch_related("resources")


def _about(letter: DeadLetter) -> SafeString:
    if letter.resource_id is None:
        return NOTHING
    number = f"{letter.resource_type} #{letter.resource_id}"
    model = _RESOURCES.get(letter.resource_type)
    found = model._default_manager.filter(pk=letter.resource_id).first() if model else None
    if found is None:
        return faint(f"{number}, gone")
    return format_html("{} {}", link(found), faint(number))


def _host(letter: DeadLetter) -> SafeString | str:
    found = Host.objects.filter(name=letter.host).first()
    return link(found) if found else letter.host


def _request(letter: DeadLetter, shown: str) -> SafeString:
    """The request's id, as a link to what it asked for."""
    if not letter.request_id:
        return NOTHING
    url, whole = list_url(Action, f"?q={quote(letter.request_id)}"), letter.request_id
    return format_html('<a class="c-link" href="{}" title="{}">{}</a>', url, whole, code(shown))
