"""Firewalls: what they let pass, what they guard, and the forms that change both."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
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

# The forms about one firewall: path, button, icon.
_FORMS = (
    ("rules", "Edit rules", "edit_note"),
    ("apply", "Apply to", "add_link"),
    ("remove", "Remove from", "link_off"),
    ("rename", "Rename or label", "edit"),
)

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
class FirewallAdmin(FactsAdmin):
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

    def get_urls(self) -> list[URLPattern]:
        ours = [
            path(
                f"<int:pk>/{name}/",
                self.admin_site.admin_view(partial(self.form_view, name=name)),
                name=f"networks_firewall_{name}",
            )
            for name, _, _ in _FORMS
        ]
        return [*ours, *super().get_urls()]

    def buttons(self, request: HttpRequest, row: Any) -> list[dict[str, Any]]:
        forms_ = [
            {
                "verb": verb,
                "icon": icon,
                "dangerous": False,
                "url": reverse(f"admin:networks_firewall_{name}", args=[row.pk]),
            }
            for name, verb, icon in _FORMS
        ]
        may = request.user.has_perm("networks.change_firewall")
        return [*(forms_ if may else []), *super().buttons(request, row)]

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
        uses = list(row.uses.select_related("vm", "selector").order_by("vm__name", "id"))
        pending = any(use.generation > use.vm.applied_generation for use in uses)
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

    def form_view(self, request: HttpRequest, pk: int, *, name: str) -> HttpResponse:
        """One of `_FORMS`."""
        firewall = self.get_object(request, str(pk))
        if firewall is None:
            raise Http404(f"There is no {self.opts.verbose_name} {pk} any more.")
        form, title, section = _form(request, firewall, name)

        def submit(data: dict[str, Any]) -> HttpResponse:
            said = _change(firewall, form, data)
            self.log_change(request, firewall, said)
            return done(request, said, page_url(firewall))

        page = FormPage(
            title=title,
            sections=(section,),
            button="Save",
            permission="networks.change_firewall",
            submit=submit,
            back=page_url(firewall),
        )
        return answer_form(self, request, form, page)


def _form(request: HttpRequest, firewall: Firewall, name: str) -> tuple[OrderForm, str, Section]:
    sent = request.POST or None
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
