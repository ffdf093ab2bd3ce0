"""Servers: the list, the page of one, and the form that orders a new one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import display

from cloud.admin.activity import HEADERS, action_rows
from cloud.admin.base import FactsAdmin
from cloud.admin.display import (
    NOTHING,
    Tone,
    ago,
    badge,
    code,
    labels,
    lines,
    link,
    list_url,
    live,
    mib,
    page_url,
    stacked,
    state,
)
from cloud.admin.forms import FormPage, Section, answer_form, done
from cloud.admin.page import Card, Cell, Fact, Page, Table
from cloud.admin.resources import register
from cloud.admin.rowforms import RENAME, RowForm, RowFormsMixin
from cloud.admin.secret import Secret, show_secret
from cloud.models import Action, Project
from vms.actions import create_vm, update_vm
from vms.admin.advice import callouts
from vms.admin.charts import charts
from vms.admin.firewall_facts import guard_badge, why_guarded
from vms.admin.forms import RenameForm, ServerForm
from vms.admin.ports import PORTS, endpoints, login, nic_behind_host, ports_form, ports_tables
from vms.admin.power import SERVER_OPERATIONS
from vms.firewalls.effective import firewall_states
from vms.lifecycle import Status
from vms.models import VM, Nic

register(
    "server",
    "vms_vm",
    lambda ids: dict(VM.objects.filter(pk__in=ids).values_list("pk", "name")),
)

_MOVING = (Status.INITIALIZING, Status.STARTING, Status.STOPPING, Status.DELETING)


def addresses(vm: VM) -> SafeString:
    """Where the server is reached, ready to be copied; needs its NICs prefetched."""
    own = (text for nic in vm.nics.all() for text in (*nic.lent, *nic.learned))
    return _codes([*endpoints(vm), *own])


def server_badge(vm: VM) -> SafeString:
    """The server's state, with a mark where its host failed at it."""
    trouble = badge("trouble", Tone.WARN, hint=vm.failure_message) if vm.failure_code else ""
    return format_html("{} {}", state(vm.status), trouble)


@admin.register(VM)
class ServerAdmin(RowFormsMixin, FactsAdmin):
    row_forms = (RENAME, PORTS)
    list_display = ("title", "state", "address", "where", "size", "made_from", "made")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("host", RelatedDropdownFilter),
        ("server_type", RelatedDropdownFilter),
        ("image", RelatedDropdownFilter),
        ("project", RelatedDropdownFilter),
    )
    search_fields = (
        *("name", "host__name", "image__name", "^nics__ipv4__address__ip"),
        *("^nics__addresses__ip", "=uuid"),
    )
    search_help_text = "Name, address, host, image or UUID"
    ordering = ("-id",)
    operations = SERVER_OPERATIONS
    empty_list = (
        "No servers yet",
        "Create one here, or from a shell with the official client:",
        "hcloud server create --name web-1 --type small --image debian",
    )
    add_label = "Create a server"
    list_reload_seconds = 2

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vms.add_vm")

    def get_queryset(self, request: HttpRequest) -> QuerySet[VM]:
        return VM.objects.for_spec()

    @display(description="Server", ordering="name")
    def title(self, vm: VM) -> SafeString:
        return stacked(vm.name, vm.project)

    @display(description="State", ordering="status")
    def state(self, vm: VM) -> SafeString:
        return live(f"state-{vm.pk}", server_badge(vm))

    @display(description="Address")
    def address(self, vm: VM) -> SafeString:
        return addresses(vm)

    @display(description="Host", ordering="host__name")
    def where(self, vm: VM) -> SafeString:
        return link(vm.host)

    @display(description="Type", ordering="server_type__name")
    def size(self, vm: VM) -> SafeString:
        return stacked(vm.server_type, _size(vm))

    @display(description="Image", ordering="image__name")
    def made_from(self, vm: VM) -> SafeString:
        return link(vm.image)

    @display(description="Created", ordering="created")
    def made(self, vm: VM) -> SafeString:
        return ago(vm.created)

    def page(self, request: HttpRequest, row: VM) -> Page:
        now = timezone.now()
        badges = [server_badge(row)]
        if row.delete_protection:
            badges.append(badge("protected", Tone.IDLE, hint="It cannot be deleted."))
        restless = row.status in _MOVING or now - row.goal_since < timedelta(seconds=30)
        return Page(
            title=row.name,
            icon="dns",
            badges=badges,
            subtitle=format_html(
                "{} · {} · {} on {}",
                login(row) or addresses(row),
                _size(row),
                link(row.image),
                link(row.host),
            ),
            callouts=callouts(row, now),
            cards=[_identity(row), _wanted(row), _seen(row)],
            charts=charts(row, now),
            tables=[
                *(_nics(row), *ports_tables(row)),
                *(_firewalls(row), _disks(row), _actions(row)),
            ],
            reload_seconds=2 if restless else 10,
        )

    def buttons(self, request: HttpRequest, row: Any) -> list[dict[str, Any]]:
        """What deletes the server stays the last."""
        forms = self.form_buttons(request, row)
        others = super().buttons(request, row)[len(forms) :]
        if nic_behind_host(row) is None:
            forms = [form for form in forms if form["verb"] != PORTS.verb]
        return [*others[:-1], *([] if row.deleting else forms), *others[-1:]]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Order a server in the project that the address names, else in the first one."""
        projects = list(Project.objects.order_by("name"))
        chosen = request.GET.get("project", "")
        project = next((one for one in projects if str(one.pk) == chosen), None)
        project = project or next(iter(projects), None)
        form = ServerForm(request.POST or None, project=project)
        page = FormPage(
            title="Create a server",
            sections=ServerForm.SECTIONS,
            button="Create",
            permission="vms.add_vm",
            submit=lambda data: self._create(request, form),
            back=list_url(VM),
            icon="rocket_launch",
            tabs=[
                {"title": one.name, "url": f"?project={one.pk}", "active": one == project}
                for one in projects
            ],
            tabs_label="Project",
            blockers=form.blockers(),
        )
        return answer_form(self, request, form, page)

    def _create(self, request: HttpRequest, form: ServerForm) -> HttpResponse:
        ordered = create_vm(form.owner, form.order())
        vm = ordered.vm
        self.log_addition(request, vm, f"Ordered, action #{ordered.action.pk}.")
        if ordered.root_password is None:
            return done(request, f"{vm} is being created.", page_url(vm))
        secret = Secret(
            title=f"{vm} is being created",
            name="Root password",
            value=ordered.root_password,
            explanation="No SSH key was chosen, so root got a password. Keep it now: it is not"
            " stored and not shown again.",
            onward=page_url(vm),
            onward_label="Go to the server",
        )
        return show_secret(self, request, secret)

    def row_form(self, row: Any, name: str, sent: QueryDict | None) -> RowForm:
        if name == PORTS.name:
            return ports_form(row, sent)
        form = RenameForm(sent, initial={"name": row.name, "labels": row.labels})

        def change(data: dict[str, Any]) -> str:
            update_vm(row, name=data["name"], labels=data["labels"])
            return f"{row} is saved."

        section = Section("Server", ("name", "labels"))
        note = "The guest keeps the hostname that it was created with."
        return RowForm(form, f"Rename or label {row}", section, change, note)


def _size(vm: VM) -> str:
    cores = "1 core" if vm.cores == 1 else f"{vm.cores} cores"
    return f"{cores} · {mib(vm.memory_mb)} · {vm.disk_gb} GiB"


def _identity(vm: VM) -> Card:
    keys = len(vm.ssh_keys)
    login = f"{keys} SSH key{'s' if keys != 1 else ''}" if keys else "root password"
    return Card(
        "Server",
        [
            Fact("Project", link(vm.project)),
            Fact("Type", link(vm.server_type)),
            Fact("Image", link(vm.image)),
            Fact("Host", link(vm.host)),
            Fact("Login", login),
            Fact("User data", f"{len(vm.user_data.encode())} bytes" if vm.user_data else "none"),
            Fact("Labels", labels(vm.labels)),
            Fact("Created", ago(vm.created)),
            Fact("UUID", code(vm.uuid)),
            Fact("Number", code(vm.pk), "As the API and its clients name it."),
        ],
        icon="dns",
    )


def _wanted(vm: VM) -> Card:
    return Card(
        "What is wanted",
        [
            Fact("State", "gone" if vm.deleting else vm.goal),
            Fact("Since", ago(vm.goal_since)),
            Fact("Generation", code(vm.generation), "Raised by every request that changes it."),
            Fact("Protected", "from deletion" if vm.delete_protection else "no"),
            Fact("Next reminder", ago(vm.next_dispatch_at) if not vm.converged else None),
            Fact("Reminders", vm.attempts or None, "How often its host was told again."),
        ],
        icon="flag",
        note="Written by requests of users.",
    )


def _seen(vm: VM) -> Card:
    current = vm.observed_generation == vm.generation and vm.converged
    agrees = badge("as wanted", Tone.GOOD) if current else badge("not yet as wanted", Tone.WARN)
    return Card(
        "What was seen",
        [
            Fact("Agreement", agrees),
            Fact("Power", vm.observed_power),
            Fact("Seen", ago(vm.observed_at) if vm.observed_at else "never"),
            Fact("Generation", code(vm.observed_generation), "The newest one its host holds."),
            Fact("Was complete once", "yes" if vm.provisioned else "no"),
            Fact("Failure", code(vm.failure_code) if vm.failure_code else None),
        ],
        icon="visibility",
        note="Written by reports of its host.",
    )


def _nics(vm: VM) -> Table:
    rows: list[list[Cell]] = [
        [
            nic.index,
            _codes(nic.lent),
            _codes(nic.learned),
            format_html_join(", ", "{}", ((link(one),) for one in _networks(nic))) or NOTHING,
            nic.mode or "not connected",
            code(nic.mac),
            _dropped(nic),
        ]
        for nic in vm.nics.all()
    ]
    headers = ("NIC", "Addresses", "Learned", "Networks", "Mode", "MAC", "Dropped")
    return Table("Network interfaces", headers, rows, "It has no network interface.")


def _networks(nic: Nic) -> list[Model]:
    """Its private network, or the pools that its addresses are from."""
    return [nic.network] if nic.network else [*nic.pools]


def _codes(texts: Iterable[str]) -> SafeString:
    return lines(map(code, texts))


def _dropped(nic: Nic) -> Cell:
    """Frames that its guest must not send, by reason."""
    counted = sorted((reason, count) for reason, count in nic.dropped.items() if count)
    return ", ".join(f"{reason} {count}" for reason, count in counted) or NOTHING


def _firewalls(vm: VM) -> Table:
    applied = firewall_states(vm)
    rows: list[list[Cell]] = [
        [link(use.firewall), why_guarded(use), guard_badge(applied[use.firewall_id])]
        for use in vm.firewall_uses.select_related("firewall", "selector")
    ]
    headers = ("Firewall", "Because of", "State")
    return Table("Firewalls", headers, rows, "It has none: everything may come in and go out.")


def _disks(vm: VM) -> Table:
    rows: list[list[Cell]] = [
        [disk.index, f"{disk.size_gb} GiB", "overlay on its image" if disk.index == 0 else "data"]
        for disk in vm.disks.all()
    ]
    return Table("Disks", ("Disk", "Size", "Kind"), rows, "It has no disks.")


def _actions(vm: VM) -> Table:
    last = Action.objects.of("server", vm.pk).prefetch_related("resources").order_by("-id")[:10]
    more = list_url(Action, f"?q={vm.pk}")
    return Table("Last actions", HEADERS, action_rows(last), "None yet.", more_url=more)
