"""SSH keys: added, renamed and forgotten through `vms.ssh_keys`."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.decorators import display

from cloud.admin.base import FactsAdmin
from cloud.admin.display import Tone, ago, code, labels, link, list_url, stacked
from cloud.admin.forms import FormPage, LabelsField, OrderForm, Section, answer_form, done
from cloud.admin.operations import Effect, Operation
from cloud.admin.page import Card, Fact, Page
from cloud.admin.rowforms import RENAME, RowForm, RowFormsMixin
from cloud.models import Project
from vms.models import SshKey
from vms.ssh_keys import create_ssh_key, delete_ssh_key, update_ssh_key


class KeyForm(OrderForm):
    project = forms.ModelChoiceField(Project.objects.all(), empty_label=None)
    name = forms.CharField(max_length=128, widget=forms.TextInput(attrs={"placeholder": "laptop"}))
    public_key = forms.CharField(
        help_text="One line, as in ~/.ssh/id_ed25519.pub.",
        widget=forms.Textarea(attrs={"rows": 4, "placeholder": "ssh-ed25519 AAAA…"}),
    )
    labels = LabelsField()


class KeyNameForm(OrderForm):
    name = forms.CharField(max_length=128)
    labels = LabelsField()


def _forget(key: SshKey) -> str:
    name = str(key)
    delete_ssh_key(key)
    return f"SSH key {name} is deleted."


@admin.register(SshKey)
class SshKeyAdmin(RowFormsMixin, FactsAdmin):
    row_forms = (RENAME,)
    list_display = ("title", "print", "chips", "made")
    list_filter = (("project", RelatedDropdownFilter),)
    list_select_related = ("project",)
    search_fields = ("name", "fingerprint", "project__name")
    search_help_text = "Name, fingerprint or project"
    empty_list = (
        "No SSH keys yet",
        "New servers let in whoever has one of the keys chosen for them.",
        "hcloud ssh-key create --name laptop --public-key-from-file ~/.ssh/id_ed25519.pub",
    )
    add_label = "Add an SSH key"
    operations = (
        Operation(
            name="forget",
            verb="Delete",
            icon="delete",
            permission="vms.delete_sshkey",
            explanation="New servers cannot be given it. Servers made with it still let it in.",
            effect=lambda key: Effect("is deleted", Tone.BAD),
            run=_forget,
            dangerous=True,
        ),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vms.add_sshkey")

    @display(description="SSH key", ordering="name")
    def title(self, key: SshKey) -> SafeString:
        return stacked(key.name, key.project)

    @display(description="Fingerprint")
    def print(self, key: SshKey) -> SafeString:
        return code(key.fingerprint)

    @display(description="Labels")
    def chips(self, key: SshKey) -> SafeString:
        return labels(key.labels)

    @display(description="Added", ordering="created")
    def made(self, key: SshKey) -> SafeString:
        return ago(key.created)

    def page(self, request: HttpRequest, row: SshKey) -> Page:
        return Page(
            title=row.name,
            icon="key",
            subtitle=link(row.project),
            cards=[
                Card(
                    "SSH key",
                    [
                        Fact("Fingerprint", code(row.fingerprint), "MD5, as clients show it."),
                        Fact("Public key", code(row.public_key)),
                        Fact("Labels", labels(row.labels)),
                        Fact("Added", ago(row.created)),
                    ],
                    icon="key",
                )
            ],
        )

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        def submit(data: dict[str, Any]) -> HttpResponse:
            key = create_ssh_key(
                data["project"],
                name=data["name"],
                public_key=data["public_key"],
                labels=data["labels"],
            )
            self.log_addition(request, key, "Added.")
            return done(request, f"SSH key {key} is added.", list_url(SshKey))

        page = FormPage(
            title="Add an SSH key",
            sections=(Section("SSH key", ("project", "name", "public_key", "labels")),),
            button="Add",
            permission="vms.add_sshkey",
            submit=submit,
            back=list_url(SshKey),
            icon="key",
        )
        return answer_form(self, request, KeyForm(request.POST or None), page)

    def row_form(self, row: Any, name: str, sent: QueryDict | None) -> RowForm:
        form = KeyNameForm(sent, initial={"name": row.name, "labels": row.labels})

        def change(data: dict[str, Any]) -> str:
            update_ssh_key(row, name=data["name"], labels=data["labels"])
            return f"SSH key {row} is saved."

        section = Section("SSH key", ("name", "labels"))
        return RowForm(form, f"Rename or label {row}", section, change)
