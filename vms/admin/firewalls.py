"""Firewalls: what they let pass, what they guard, and the forms that change both."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.decorators import display

from cloud.admin.base import FactsAdmin
from cloud.admin.display import (
    Tone,
    ago,
    code,
    labels,
    link,
    list_url,
    page_url,
    stacked,
)
from cloud.admin.forms import FormPage, OrderForm, Section, answer_form, done
from cloud.admin.operations import Effect, Operation
from cloud.admin.page import Card, Fact, Page
from cloud.admin.resources import register
from cloud.admin.rowforms import RENAME, Entry, RowForm, RowFormsMixin
from networks.models import Firewall
from vms.admin.firewall_facts import (
    actions_table,
    guard_badge,
    guarded_table,
    rules_table,
    selectors_table,
    words_of,
)
from vms.admin.firewall_forms import (
    ApplyForm,
    FirewallForm,
    FirewallNameForm,
    RemoveForm,
    RulesForm,
)
from vms.firewalls.actions import (
    FirewallOrder,
    apply_firewall,
    create_firewall,
    delete_firewall,
    remove_firewall,
    set_rules,
    update_firewall,
)
from vms.firewalls.effective import is_applied

register(
    "firewall",
    "networks_firewall",
    lambda ids: dict(Firewall.objects.filter(pk__in=ids).values_list("pk", "name")),
)


def _delete(firewall: Firewall) -> str:
    name = str(firewall)
    delete_firewall(firewall)
    return f"Firewall {name} is deleted."


def _delete_effect(firewall: Firewall) -> Effect:
    if firewall.uses.exists() or firewall.selectors.exists():
        return Effect("is still in use: will be refused", Tone.WARN)
    return Effect("is deleted, its rules with it", Tone.BAD)


@admin.register(Firewall)
class FirewallAdmin(RowFormsMixin, FactsAdmin):
    row_forms = (
        Entry("rules", "Edit rules", "edit_note"),
        Entry("apply", "Apply to", "add_link"),
        Entry("remove", "Remove from", "link_off"),
        RENAME,
    )
    list_display = ("title", "passes", "guards", "chips", "made")
    list_filter = (("project", RelatedDropdownFilter),)
    list_select_related = ("project",)
    search_fields = ("name", "project__name")
    search_help_text = "Name or project"
    empty_list = (
        "No firewalls yet",
        "A firewall says what may reach servers and leave them. Without one everything may.",
        "hcloud firewall create --name web --rules-file rules.json",
    )
    add_label = "Add a firewall"
    operations = (
        Operation(
            name="forget",
            verb="Delete",
            icon="delete",
            permission="networks.delete_firewall",
            explanation="Only a firewall that is applied to nothing can be deleted.",
            effect=_delete_effect,
            run=_delete,
            dangerous=True,
        ),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("networks.add_firewall")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Firewall]:
        return Firewall.objects.with_resources().select_related("project")

    @display(description="Firewall", ordering="name")
    def title(self, firewall: Firewall) -> SafeString:
        return stacked(firewall.name, firewall.project)

    @display(description="Lets pass")
    def passes(self, firewall: Firewall) -> SafeString:
        return words_of(firewall.rules)

    @display(description="Guards")
    def guards(self, firewall: Any) -> SafeString:
        servers = len({use.vm_id for use in firewall.uses.all()})
        selectors = ", ".join(one.selector for one in firewall.selectors.all())
        text = f"{servers} server{'s' if servers != 1 else ''}" if servers else "nothing"
        return stacked(text, selectors)

    @display(description="Labels")
    def chips(self, firewall: Firewall) -> SafeString:
        return labels(firewall.labels)

    @display(description="Created", ordering="created")
    def made(self, firewall: Firewall) -> SafeString:
        return ago(firewall.created)

    def page(self, request: HttpRequest, row: Firewall) -> Page:
        uses = list(row.uses.select_related("vm__host", "selector").order_by("vm__name", "id"))
        pending = any(not is_applied(use, use.vm) for use in uses)
        return Page(
            title=row.name,
            icon="local_fire_department",
            badges=[guard_badge(not pending)] if uses else [],
            subtitle=link(row.project),
            cards=[
                Card(
                    "Firewall",
                    [
                        Fact("Lets pass", words_of(row.rules)),
                        Fact("Labels", labels(row.labels)),
                        Fact("Created", ago(row.created)),
                        Fact("Number", code(row.pk), "As the API and its clients name it."),
                    ],
                    icon="local_fire_department",
                    note="Answers always pass, and so does what any other firewall of a server"
                    " lets pass.",
                )
            ],
            tables=[
                rules_table(row),
                selectors_table(row),
                guarded_table(uses),
                actions_table(row),
            ],
            reload_seconds=2 if pending else 10,
        )

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        def submit(data: dict[str, Any]) -> HttpResponse:
            project = data.pop("project")
            firewall, _ = create_firewall(project, FirewallOrder(**data))
            self.log_addition(request, firewall, "Added.")
            return done(request, f"Firewall {firewall} is added.", page_url(firewall))

        page = FormPage(
            title="Add a firewall",
            sections=(
                Section("Firewall", ("project", "name", "labels")),
                Section("Rules", ("rules",), RulesForm.NOTE),
            ),
            button="Add",
            permission="networks.add_firewall",
            submit=submit,
            back=list_url(Firewall),
            icon="local_fire_department",
        )
        return answer_form(self, request, FirewallForm(request.POST or None), page)

    def row_form(self, row: Any, name: str, sent: QueryDict | None) -> RowForm:
        form, title, section = _form(sent, row, name)
        return RowForm(form, title, section, lambda data: _change(row, form, data))


def _form(sent: QueryDict | None, firewall: Firewall, name: str) -> tuple[OrderForm, str, Section]:
    match name:
        case "rules":
            rules = RulesForm(sent, initial={"rules": firewall.rules})
            title = f"Rules of {firewall}"
            return rules, title, Section("Rules", ("rules",), RulesForm.NOTE)
        case "apply":
            fields = ("servers", "label_selector")
            form = ApplyForm(sent, firewall=firewall)
            return form, f"Apply {firewall}", Section("Servers", fields)
        case "remove":
            section = Section("Applied to", ("applied_to",), "Servers keep their other firewalls.")
            return RemoveForm(sent, firewall=firewall), f"Remove {firewall}", section
        case _:
            known = {"name": firewall.name, "labels": firewall.labels}
            section = Section("Firewall", ("name", "labels"))
            return FirewallNameForm(sent, initial=known), f"Rename or label {firewall}", section


def _change(firewall: Firewall, form: OrderForm, data: dict[str, Any]) -> str:
    """Do what the form asks, and say so."""
    match form:
        case RulesForm():
            set_rules(firewall, data["rules"])
            return f"The rules of {firewall} are saved; its servers' hosts are being told."
        case ApplyForm():
            apply_firewall(firewall, form.targets())
            return f"Firewall {firewall} is applied; the servers' hosts are being told."
        case RemoveForm():
            remove_firewall(firewall, form.targets())
            return f"Firewall {firewall} is removed; the servers' hosts are being told."
        case _:
            update_firewall(firewall, name=data["name"], labels=data["labels"])
            return f"Firewall {firewall} is saved."
