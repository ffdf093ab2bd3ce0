"""Forms about private networks; `vms.private` judges what they order."""

from __future__ import annotations

from typing import Any

from django import forms

from cloud.admin.forms import LabelsField, OrderForm
from cloud.models import Location, Project
from networks.models import PrivateNetwork
from vms.models import VM
from vms.private.actions import NetworkOrder, RouteOrder, SubnetOrder
from vms.private.membership import Seat


class NetworkSettingsForm(OrderForm):
    name = forms.CharField(max_length=128, widget=forms.TextInput(attrs={"placeholder": "backend"}))
    labels = LabelsField()
    egress = forms.BooleanField(
        required=False,
        label="Way to the world",
        help_text="Servers without a public address reach the world by their hosts (source NAT).",
    )


class SubnetForm(OrderForm):
    network_zone = forms.ChoiceField(
        choices=lambda: [
            (zone, zone)
            for zone in Location.objects.order_by("network_zone")
            .values_list("network_zone", flat=True)
            .distinct()
        ]
    )
    subnet = forms.CharField(
        required=False,
        help_text="Empty: the first /24 that is free.",
        widget=forms.TextInput(attrs={"placeholder": "10.0.1.0/24"}),
    )

    def order(self) -> SubnetOrder:
        chosen = self.cleaned_data["subnet"] or None
        return SubnetOrder("cloud", self.cleaned_data["network_zone"], chosen)


class NetworkForm(NetworkSettingsForm, SubnetForm):
    project = forms.ModelChoiceField(Project.objects.all(), empty_label=None)
    ip_range = forms.CharField(
        label="Range",
        help_text="Private (RFC 1918), /24 or larger. It may be that of other networks too.",
        widget=forms.TextInput(attrs={"placeholder": "10.0.0.0/16"}),
    )

    def network_order(self) -> NetworkOrder:
        fields = ("name", "ip_range", "labels", "egress")
        return NetworkOrder(
            **{name: self.cleaned_data[name] for name in fields}, subnets=[self.order()]
        )


class RouteForm(OrderForm):
    destination = forms.CharField(widget=forms.TextInput(attrs={"placeholder": "192.168.0.0/24"}))
    gateway = forms.CharField(
        help_text="The address of a server in the network.",
        widget=forms.TextInput(attrs={"placeholder": "10.0.1.2"}),
    )

    def order(self) -> RouteOrder:
        return RouteOrder(self.cleaned_data["destination"], self.cleaned_data["gateway"])


class AttachForm(OrderForm):
    server = forms.ModelChoiceField(VM.objects.none(), empty_label=None)
    ip = forms.CharField(
        required=False, label="Address", help_text="Empty: the lowest that is free."
    )

    def __init__(self, *args: Any, network: PrivateNetwork, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        servers = VM.objects.filter(project=network.project_id, deleting=False)
        self.fields["server"].queryset = servers.exclude(  # type: ignore[attr-defined]
            nics__network=network
        )

    def seat(self) -> Seat:
        return Seat(ip=self.cleaned_data["ip"] or None)
