"""Hosts: what they have, what is promised, whether they speak; and how a new one joins."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import display

from cloud.admin.base import FactsAdmin
from cloud.admin.differences import drift_table
from cloud.admin.display import (
    Tone,
    ago,
    badge,
    bar,
    code,
    faint,
    lasted,
    link,
    list_url,
    live,
    mib,
    page_url,
    stacked,
    state,
)
from cloud.admin.forms import FormPage, OrderForm, Section, answer_form
from cloud.admin.operations import Effect, Operation
from cloud.admin.page import Callout, Card, Cell, Fact, Page, Table
from cloud.admin.secret import Secret, show_secret
from cloud.admin.usermode import mode_badges, problem_callouts, user_mode_cards
from cloud.hosts import add_host, set_schedulable
from cloud.models import Host, Location, host_name


def heartbeat(host: Host, now: datetime) -> SafeString:
    """Whether the host speaks: green in time, amber late, red silent."""
    if host.last_heartbeat is None:
        return badge("never joined", Tone.IDLE, hint="Start its agent with the join bundle.")
    age = now - host.last_heartbeat
    hint = f"last heartbeat {lasted(age)} ago"
    if not host.is_silent(now, settings.HOST_SILENT_SECONDS / 2):
        return badge("speaking", Tone.GOOD, hint=hint)
    if not host.is_silent(now, settings.HOST_SILENT_SECONDS):
        return badge("late", Tone.WARN, hint=hint)
    if host.last_heartbeat > now:
        return badge("silent", Tone.BAD, hint="Not heard since the clock was set back.")
    return badge(f"silent for {lasted(age)}", Tone.BAD, hint=hint)


def core_bar(host: Any) -> SafeString:
    limit = int(host.cores * settings.CPU_OVERCOMMIT)
    hint = f"{host.cores} cores, each promised up to {settings.CPU_OVERCOMMIT:g} times"
    return bar(host.used_cores, limit, f"{host.used_cores} of {limit}", hint=hint)


def memory_bar(host: Any) -> SafeString:
    label = f"{mib(host.used_memory_mb)} of {mib(host.memory_mb)}"
    return bar(host.used_memory_mb, host.memory_mb, label)


def disk_bar(host: Any) -> SafeString:
    label = f"{host.used_disk_gb} of {host.disk_gb} GiB"
    hint = f"{host.disk_free_gb} GiB of the file system are free right now"
    return bar(host.used_disk_gb, host.disk_gb, label, hint=hint)


def accelerator_badge(host: Host) -> SafeString:
    if not host.accelerator:
        return badge("not probed", Tone.IDLE)
    tone = Tone.GOOD if host.accelerator == Host.Accelerator.KVM else Tone.WARN
    return badge(host.accelerator.upper(), tone, hint=host.accelerator_reason)


def _open(host: Host) -> str:
    set_schedulable(host, True)
    return f"{host} is open for new servers."


def _close(host: Host) -> str:
    set_schedulable(host, False)
    return f"{host} gets no new servers. Its {host.vms.count()} servers run on."


def _bundle(name: str, location: Location) -> Secret:
    bundle = add_host(name, location)
    return Secret(
        title=f"{name} may join",
        name="Join bundle",
        value=json.dumps(bundle, indent=2),
        explanation="Copy it to the host into a file that only root can read, and start the agent"
        " with it. It holds the host's broker password and is not shown again.",
        onward=page_url(Host.objects.get(name=name)),
        onward_label="Go to the host",
        lines=6,
    )


_OPERATIONS = (
    Operation(
        name="open",
        verb="Open for new servers",
        icon="lock_open",
        permission="cloud.change_host",
        explanation="New servers may be placed on it again.",
        effect=lambda host: Effect(
            "is open already" if host.schedulable else "will take new servers"
        ),
        run=_open,
        offered=lambda host: not host.schedulable,
    ),
    Operation(
        name="close",
        verb="Close for new servers",
        icon="block",
        permission="cloud.change_host",
        explanation="No new server is placed on it. Servers that are there run on and can still be"
        " switched on and off.",
        effect=lambda host: Effect(
            f"keeps its {host.vm_count} servers" if host.schedulable else "is closed already"
        ),
        run=_close,
        offered=lambda host: host.schedulable,
    ),
    Operation(
        name="rejoin",
        verb="Make a new join bundle",
        icon="add_link",
        permission="cloud.change_host",
        explanation="The host's broker password is replaced. A running agent keeps its connection,"
        " but cannot come back with the old bundle.",
        effect=lambda host: Effect("needs the new bundle at its agent's next start", Tone.WARN),
        run=lambda host: _bundle(host.name, host.location),
        bulk=False,
    ),
)


class HostForm(OrderForm):
    name = forms.CharField(
        max_length=32,
        validators=[host_name],
        help_text="Lower-case letters, digits and hyphens; it names the host's queue.",
        widget=forms.TextInput(attrs={"autofocus": True, "placeholder": "rack1-node3"}),
    )
    location = forms.ModelChoiceField(Location.objects.all(), empty_label=None)

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if Host.objects.filter(name=name).exists():
            raise forms.ValidationError("A host of this name exists: make it a new bundle there.")
        return name


@admin.register(Host)
class HostAdmin(FactsAdmin):
    list_display = ("title", "alive", "accelerated", "cores_", "memory", "disk", "servers", "where")
    list_filter = (
        ("location", RelatedDropdownFilter),
        ("accelerator", ChoicesDropdownFilter),
    )
    search_fields = ("name", "location__name", "uuid", "boot_id")
    search_help_text = "Name, location, machine or boot id"
    operations = _OPERATIONS
    empty_list = (
        "No hosts yet",
        "A host is a machine that runs servers. Add one, copy its join bundle to it and start its"
        " agent.",
        "manage.py host_add NAME --location LOCATION",
    )
    add_label = "Add a host"
    list_reload_seconds = 5

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("cloud.add_host")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Host]:
        return Host.objects.with_use().select_related("location").order_by("name")

    @display(description="Host", ordering="name")
    def title(self, host: Host) -> SafeString:
        closed = "" if host.schedulable else badge("closed", Tone.WARN, hint="No new servers.")
        refused = badge("second machine", Tone.BAD) if host.refused_uuid else ""
        revoked = badge("revoked", Tone.BAD) if host.revoked_at else ""
        marks = format_html("{} {} {} {}", closed, refused, revoked, mode_badges(host))
        return format_html("<b>{}</b> {}", host.name, marks)

    @display(description="Heartbeat", ordering="last_heartbeat")
    def alive(self, host: Host) -> SafeString:
        return live(f"alive-{host.pk}", heartbeat(host, timezone.now()))

    @display(description="Accelerator", ordering="accelerator")
    def accelerated(self, host: Host) -> SafeString:
        return accelerator_badge(host)

    @display(description="Cores", ordering="used_cores")
    def cores_(self, host: Host) -> SafeString:
        return core_bar(host)

    @display(description="Memory", ordering="used_memory_mb")
    def memory(self, host: Host) -> SafeString:
        return memory_bar(host)

    @display(description="Disk", ordering="used_disk_gb")
    def disk(self, host: Host) -> SafeString:
        return disk_bar(host)

    @display(description="Servers", ordering="vm_count")
    def servers(self, host: Any) -> SafeString:
        url = list_url(host.vms.model, f"?host__id__exact={host.pk}")
        return format_html('<a class="c-link" href="{}">{}</a>', url, host.vm_count)

    @display(description="Location", ordering="location")
    def where(self, host: Host) -> SafeString:
        return link(host.location)

    def page(self, request: HttpRequest, row: Any) -> Page:
        now = timezone.now()
        badges = [heartbeat(row, now), accelerator_badge(row)]
        if not row.schedulable:
            badges.append(badge("closed for new servers", Tone.WARN))
        badges.append(mode_badges(row))
        return Page(
            title=row.name,
            icon="host",
            badges=badges,
            subtitle=format_html("in {}", link(row.location)),
            callouts=_callouts(row, now),
            cards=[
                Card(
                    "Promised to servers",
                    [
                        Fact("Cores", core_bar(row)),
                        Fact("Memory", memory_bar(row)),
                        Fact("Disk", disk_bar(row)),
                        Fact("Servers", row.vm_count),
                    ],
                    icon="speed",
                ),
                Card(
                    "As it reports itself",
                    [
                        Fact("Last heartbeat", ago(row.last_heartbeat)),
                        Fact("Agent", code(row.agent_version)),
                        Fact("Boot", code(row.boot_id), "Changes with every start of its kernel."),
                        Fact("Machine", code(row.uuid), "Claimed by its first heartbeat."),
                        Fact("Network mode", row.network_mode, "How guests are connected."),
                        Fact("Uplink", code(row.uplink_ip)),
                        Fact(
                            "In the mesh",
                            code(row.tunnel_ip) if row.in_mesh else "no",
                            "Its address in the tunnels of private networks.",
                        ),
                        Fact("Tunnel endpoint", code(row.tunnel_endpoint)),
                        Fact(
                            "Tunnel key", code(row.tunnel_key), "Public; it made the pair itself."
                        ),
                    ],
                    icon="monitor_heart",
                ),
                *user_mode_cards(row),
            ],
            tables=[_servers(row), _images(row), drift_table(row), _leftovers(row)],
            reload_seconds=5,
        )

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        form = HostForm(request.POST or None)
        page = FormPage(
            title="Add a host",
            sections=(Section("Host", ("name", "location")),),
            button="Make its join bundle",
            permission="cloud.add_host",
            submit=lambda data: self._joined(request, data["name"], data["location"]),
            back=list_url(Host),
            icon="add_link",
            note="The host gets a row, queues and a broker user of its own. What it has, it reports"
            " itself once its agent runs.",
        )
        return answer_form(self, request, form, page)

    def _joined(self, request: HttpRequest, name: str, location: Location) -> HttpResponse:
        secret = _bundle(name, location)
        self.log_addition(request, Host.objects.get(name=name), "Made its join bundle.")
        return show_secret(self, request, secret)


def _callouts(host: Host, now: datetime) -> list[Callout]:
    found = []
    if host.refused_uuid:
        claimed = format_html(
            "The machine {} used this host's credentials while {} owns the name, and was refused."
            " If the disk was cloned, give the copy a host of its own. If the machine was replaced,"
            " add the new one under another name.",
            code(host.refused_uuid),
            code(host.uuid),
        )
        found.append(Callout(Tone.BAD, "A second machine claims this name", claimed))
    if host.revoked_at:
        cut = format_html(
            "Since {} no other host talks to it, and what it says is dropped. Its servers stay in"
            " the inventory, unknown. A new join bundle takes it back. If the machine is gone for"
            " good, {} forgets them.",
            ago(host.revoked_at),
            code(f"manage.py host_revoke {host.name} --destroyed"),
        )
        found.append(Callout(Tone.BAD, "This host is revoked", cut))
    elif host.last_heartbeat is None:
        how = "Copy its join bundle to the machine and start the agent; it shows up in seconds."
        found.append(Callout(Tone.BUSY, "Waiting for its first heartbeat", how))
    elif host.is_silent(now, settings.HOST_SILENT_SECONDS):
        silence = format_html(
            "Last heard {}. Its servers are shown as unknown: they probably run on, nothing is"
            " restarted or taken away. Look at the machine, its network and its agent.",
            ago(host.last_heartbeat),
        )
        found.append(Callout(Tone.BAD, "This host does not speak", silence))
    found += problem_callouts(host)
    if host.accelerator == Host.Accelerator.TCG:
        reason = host.accelerator_reason or "No reason was reported"
        slow = f"{reason}. Guests are emulated, about ten times slower. It is tried again at the"
        found.append(Callout(Tone.WARN, "No hardware virtualization", f"{slow} next boot."))
    return found


def _servers(host: Any) -> Table:
    servers = host.vms.select_related("server_type", "image").order_by("name")[:50]
    rows = [
        [link(vm), state(vm.status), str(vm.server_type), str(vm.image), ago(vm.created)]
        for vm in servers
    ]
    headers = ("Server", "State", "Type", "Image", "Created")
    more = list_url(host.vms.model, f"?host__id__exact={host.pk}")
    return Table("Servers", headers, rows, "No servers here.", more_url=more)


def _images(host: Any) -> Table:
    copies = host.image_copies.filter(image__deleted_at=None).select_related("image")
    rows = [[link(copy.image), copy_state(copy), ago(copy.updated)] for copy in copies]
    return Table("Images", ("Image", "Copy", "Reported"), rows, "No images planned for it yet.")


def _leftovers(host: Host) -> Table:
    rows: list[list[Cell]] = [[code(leftover)] for leftover in host.leftovers]
    return Table("Beyond the inventory", ("In its network",), rows, "Nothing that nobody owns.")


def copy_state(copy: Any) -> SafeString:
    """How far a host is with an image."""
    if copy.ready:
        return badge("ready", Tone.GOOD)
    if copy.failure_code:
        return stacked(badge("failed", Tone.BAD, hint=copy.failure_code), copy.failure_message)
    if copy.progress:
        return bar(copy.progress, 100, f"{copy.progress} %", tone=Tone.BUSY)
    return faint("waiting")
