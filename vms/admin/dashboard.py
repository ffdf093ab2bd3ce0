"""The overview: is the cloud well, what is under way, what failed, and what to set up next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from cloud.admin.activity import HEADERS, action_rows
from cloud.admin.display import Tone, badge, link, list_url, state_tone
from cloud.admin.hosts import (
    accelerator_badge,
    core_bar,
    disk_bar,
    heartbeat,
    memory_bar,
)
from cloud.admin.page import Callout, Table
from cloud.models import Action, ApiToken, Host, Location, Project
from cloud.theme import API_DOCS_URL, flower_url
from networks.models import Network
from networks.pools import usable
from vms.lifecycle import Status
from vms.models import VM, Image, ServerType

# How long a failure stays on the overview.
_RECENT = timedelta(days=1)


@dataclass(frozen=True)
class Figure:
    """One number of the head line."""

    title: str
    value: str
    note: str | SafeString
    url: str
    icon: str
    tone: Tone = Tone.IDLE


@dataclass(frozen=True)
class Slice:
    """The servers in one state, and their share of all in percent."""

    state: str
    count: int
    share: float
    tone: Tone
    url: str


def context(request: HttpRequest, page: dict[str, Any]) -> dict[str, Any]:
    """Everything the overview shows, in a constant number of queries."""
    now = timezone.now()
    hosts = list(Host.objects.with_use().select_related("location").order_by("name"))
    slices = _slices()
    return {
        **page,
        "figures": _figures(now, hosts, slices),
        "slices": slices,
        "hosts": [_host_card(host, now) for host in hosts],
        "callouts": _callouts(hosts, now),
        "tables": [_open_actions(), _failed_actions(now)],
        "steps": _steps(hosts),
        "flower_url": flower_url(request),
        "api_docs_url": API_DOCS_URL,
    }


def _slices() -> list[Slice]:
    counts = dict(VM.objects.order_by().values_list("status").annotate(count=Count("pk")))
    total = sum(counts.values())
    return [
        Slice(
            state=status.value,
            count=counts[status.value],
            share=100 * counts[status.value] / total,
            tone=state_tone(status.value),
            url=list_url(VM, f"?status__exact={status.value}"),
        )
        for status in sorted(Status, key=lambda one: one != Status.RUNNING)
        if counts.get(status.value)
    ]


def _figures(now: datetime, hosts: Sequence[Host], slices: list[Slice]) -> list[Figure]:
    running = sum(part.count for part in slices if part.state == Status.RUNNING)
    servers = sum(part.count for part in slices)
    limit = settings.HOST_SILENT_SECONDS
    speaking = sum(not host.is_silent(now, limit) for host in hosts)
    held = total = 0
    for pool in Network.objects.of_version(4).with_use():
        held, total = held + pool.held_count, total + usable(pool)
    recent = Action.objects.aggregate(
        running=Count("pk", filter=Q(status=Action.Status.RUNNING)),
        failed=Count("pk", filter=Q(status=Action.Status.ERROR, finished__gte=now - _RECENT)),
    )
    return [
        Figure(
            "Servers",
            str(servers),
            f"{running} running",
            list_url(VM),
            "dns",
            Tone.GOOD if running else Tone.IDLE,
        ),
        Figure(
            "Hosts",
            f"{speaking} of {len(hosts)}" if hosts else "0",
            "speak" if hosts else "none has joined",
            list_url(Host),
            "host",
            Tone.BAD if speaking < len(hosts) else Tone.GOOD if hosts else Tone.IDLE,
        ),
        Figure(
            "IPv4 addresses",
            str(held),
            f"of {total} lent",
            list_url(Network),
            "pin_drop",
            Tone.BAD if total and held >= total else Tone.IDLE,
        ),
        Figure(
            "Under way",
            str(recent["running"]),
            "actions",
            list_url(Action, "?status__exact=running"),
            "bolt",
            Tone.BUSY if recent["running"] else Tone.IDLE,
        ),
        Figure(
            "Failed",
            str(recent["failed"]),
            "in the last day",
            list_url(Action, "?status__exact=error"),
            "error",
            Tone.BAD if recent["failed"] else Tone.GOOD,
        ),
    ]


def _host_card(host: Any, now: datetime) -> dict[str, Any]:
    return {
        "name": host.name,
        "url": reverse("admin:cloud_host_change", args=[host.pk]),
        "place": host.location.name,
        "joined": host.last_heartbeat is not None,
        "badges": [heartbeat(host, now), *_marks(host)],
        "servers": host.vm_count,
        "bars": [
            ("Cores", core_bar(host)),
            ("Memory", memory_bar(host)),
            ("Disk", disk_bar(host)),
        ],
    }


def _marks(host: Host) -> list[SafeString]:
    found = [accelerator_badge(host)] if host.accelerator else []
    if not host.schedulable:
        found.append(badge("closed", Tone.WARN, hint="It gets no new servers."))
    return found


def _callouts(hosts: Sequence[Host], now: datetime) -> list[Callout]:
    limit = settings.HOST_SILENT_SECONDS
    silent = [host for host in hosts if host.last_heartbeat and host.is_silent(now, limit)]
    claimed = [host for host in hosts if host.refused_uuid]
    slow = [host for host in hosts if host.accelerator == Host.Accelerator.TCG]
    found = []
    if silent:
        text = format_html(
            "{}: servers there are shown as unknown; they may well run.", _named(silent)
        )
        found.append(Callout(Tone.BAD, "Silent hosts", text))
    if claimed:
        text = format_html("{}: another machine used the name and was refused.", _named(claimed))
        found.append(Callout(Tone.BAD, "A second machine claims a host's name", text))
    if slow:
        text = format_html(
            "{}: guests are emulated, about ten times slower. The host's page says why.",
            _named(slow),
        )
        found.append(Callout(Tone.WARN, "No hardware virtualization", text))
    return found


def _named(hosts: Sequence[Host]) -> SafeString:
    return format_html_join(", ", "{}", ((link(host),) for host in hosts))


def _open_actions() -> Table:
    actions = Action.objects.open().prefetch_related("resources").order_by("-id")[:8]
    return Table(
        "Under way",
        HEADERS,
        action_rows(actions),
        "Nothing is under way.",
        more_url=list_url(Action, "?status__exact=running"),
    )


def _failed_actions(now: datetime) -> Table:
    failed = Action.objects.filter(status=Action.Status.ERROR, finished__gte=now - _RECENT)
    actions = failed.prefetch_related("resources").order_by("-id")[:8]
    return Table(
        "Failed in the last day",
        HEADERS,
        action_rows(actions),
        "Nothing failed.",
        more_url=list_url(Action, "?status__exact=error"),
    )


def _steps(hosts: Sequence[Host]) -> list[dict[str, Any]]:
    """What a new cloud needs before its first server; empty once it is complete."""
    steps = [
        ("Add a location", Location.objects.exists(), reverse("admin:cloud_location_add")),
        ("Add a pool of public addresses", Network.objects.exists(), _add(Network)),
        ("Let a host join", any(host.last_heartbeat for host in hosts), _add(Host)),
        ("Make the server types", ServerType.objects.exists(), _add(ServerType)),
        (
            "Register an image",
            Image.objects.filter(status=Image.Status.AVAILABLE, deleted_at=None).exists(),
            list_url(Image),
        ),
        ("Make a project", Project.objects.exists(), _add(Project)),
        ("Issue an API token", ApiToken.objects.usable().exists(), _add(ApiToken)),
    ]
    if all(done for _, done, _ in steps):
        return []
    return [{"title": title, "done": done, "url": url} for title, done, url in steps]


def _add(model: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_add")
