"""Forms about firewalls; `vms.firewalls.actions` judges what they order."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms

from cloud.admin.forms import LabelsField, OrderForm, Ticks
from cloud.models import Project
from networks.models import Firewall
from vms.admin.rules import RulesField
from vms.firewalls.actions import Target
from vms.models import VM


class FirewallNameForm(OrderForm):
    name = forms.CharField(max_length=128, widget=forms.TextInput(attrs={"placeholder": "web"}))
    labels = LabelsField()


class RulesForm(OrderForm):
    NOTE: ClassVar = (
        "Without an “in” rule nothing comes in; without an “out” rule everything goes out."
        " Networks are separated by blanks. Ports are for tcp and udp only."
    )

    rules = RulesField(required=False, label="")


class FirewallForm(FirewallNameForm, RulesForm):
    project = forms.ModelChoiceField(Project.objects.all(), empty_label=None)


class ApplyForm(OrderForm):
    servers = forms.ModelMultipleChoiceField(
        VM.objects.none(),
        label="",
        required=False,
        widget=Ticks(lambda: "It is applied to every server of its project already."),
    )
    label_selector = forms.CharField(
        required=False,
        max_length=1024,
        help_text="Such as env=prod,!old. Servers come and go as their labels change.",
        widget=forms.TextInput(attrs={"placeholder": "env=prod"}),
    )

    def __init__(self, *args: Any, firewall: Firewall, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        free = VM.objects.filter(project=firewall.project_id, deleting=False)
        direct = firewall.uses.filter(selector=None)
        self.fields["servers"].queryset = free.exclude(  # type: ignore[attr-defined]
            firewall_uses__in=direct
        )

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if not data.get("servers") and not data.get("label_selector"):
            raise forms.ValidationError("Choose a server or write a label selector.")
        return data

    def targets(self) -> list[Target]:
        chosen = [Target(server=vm.pk) for vm in self.cleaned_data["servers"]]
        selector = self.cleaned_data["label_selector"]
        return [*chosen, Target(selector=selector)] if selector else chosen


class RemoveForm(OrderForm):
    applied_to = forms.MultipleChoiceField(
        label="",
        widget=Ticks(lambda: "It is applied to nothing."),
        error_messages={"required": "Choose at least one."},
    )

    def __init__(self, *args: Any, firewall: Firewall, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        direct = firewall.uses.filter(selector=None).select_related("vm")
        self._known = {
            **{f"server {use.vm.name}": Target(server=use.vm_id) for use in direct},
            **{
                f"label selector {one.selector}": Target(selector=one.selector)
                for one in firewall.selectors.all()
            },
        }
        choices = [(text, text) for text in self._known]
        self.fields["applied_to"].choices = choices  # type: ignore[attr-defined]

    def targets(self) -> list[Target]:
        return [self._known[text] for text in self.cleaned_data["applied_to"]]
