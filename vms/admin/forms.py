"""The form for a new server: it builds a `ServerOrder`, `vms.actions` judges it."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.urls import reverse
from django.utils.html import format_html

from cloud.admin.display import byte_size, mib
from cloud.admin.forms import Cards, LabelsField, OrderForm, Section, Ticks
from cloud.models import Host, Location, Project
from networks.models import Firewall
from vms.actions import ServerOrder
from vms.admin.ports import PortsField
from vms.attachments import PublicNet
from vms.models import Image, ServerType, SshKey


def describe_type(kind: ServerType) -> str:
    cores = "1 core" if kind.cores == 1 else f"{kind.cores} cores"
    return f"{cores} · {mib(kind.memory_mb)} memory · {kind.disk_gb} GiB disk"


def describe_image(image: Image) -> str:
    words = image.description or f"{image.os_flavor} {image.os_version}".strip()
    return f"{words} · {byte_size(image.bytes)}"


def _no_keys() -> str:
    return format_html(
        'This project has no SSH keys yet: <a class="c-link" href="{}">add one</a>, or log in with'
        " a password.",
        reverse("admin:vms_sshkey_add"),
    )


def _no_firewalls() -> str:
    return format_html(
        'This project has no firewalls yet: <a class="c-link" href="{}">add one</a>.',
        reverse("admin:networks_firewall_add"),
    )


class ServerForm(OrderForm):
    """A server in one project: keys and private images of other projects are not offered."""

    SECTIONS: ClassVar = (
        Section("Name", ("name", "labels")),
        Section("Image", ("image",)),
        Section("Type", ("server_type",)),
        Section("Access", ("ssh_keys",), "Without a key root gets a password, shown once."),
        Section("Firewalls", ("firewalls",), "Without one everything may come in."),
        Section("Place", ("location", "public_ipv4", "public_ipv6", "forwarded_ports", "start")),
        Section("First boot", ("user_data",)),
    )

    name = forms.CharField(
        max_length=128,
        help_text="The guest's hostname: letters, digits, hyphens and dots.",
        widget=forms.TextInput(attrs={"autofocus": True, "placeholder": "web-1"}),
    )
    labels = LabelsField()
    image = forms.ModelChoiceField(
        Image.objects.none(), label="", empty_label=None, widget=Cards(describe_image)
    )
    server_type = forms.ModelChoiceField(
        ServerType.objects.filter(deprecated_at=None),
        label="",
        empty_label=None,
        widget=Cards(describe_type),
    )
    ssh_keys = forms.ModelMultipleChoiceField(
        SshKey.objects.none(), label="", required=False, widget=Ticks(_no_keys)
    )
    firewalls = forms.ModelMultipleChoiceField(
        Firewall.objects.none(), label="", required=False, widget=Ticks(_no_firewalls)
    )
    location = forms.ModelChoiceField(
        Location.objects.all(), required=False, empty_label="Wherever there is room"
    )
    public_ipv4 = forms.BooleanField(required=False, initial=True, label="Public IPv4 address")
    public_ipv6 = forms.BooleanField(
        required=False,
        initial=True,
        label="Public IPv6 network",
        help_text="Where the location has some. It needs one of both to start.",
    )
    forwarded_ports = PortsField(
        label="Forwarded ports in place of addresses",
        help_text="Lets a host without privileges have it: ports of that host lead to these.",
    )
    start = forms.BooleanField(required=False, initial=True, label="Start it when it is ready")
    user_data = forms.CharField(
        required=False,
        label="User data",
        help_text="A cloud-init document, up to 32 KiB.",
        widget=forms.Textarea(attrs={"rows": 5, "placeholder": "#cloud-config"}),
        strip=False,
    )

    def __init__(self, *args: Any, project: Project | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project
        if project is None:
            return
        images = Image.objects.visible_to(project.pk).filter(
            status=Image.Status.AVAILABLE, deprecated_at=None
        )
        self.fields["image"].queryset = images  # type: ignore[attr-defined]
        self.fields["ssh_keys"].queryset = project.ssh_keys.all()  # type: ignore[attr-defined]
        self.fields["firewalls"].queryset = project.firewalls.all()  # type: ignore[attr-defined]
        self.initial.setdefault("image", images.first())
        self.initial.setdefault("server_type", ServerType.objects.first())

    @property
    def owner(self) -> Project:
        if self.project is None:
            raise forms.ValidationError("Make a project first: it will own the server.")
        return self.project

    def blockers(self) -> list[str]:
        """What is missing before any server can be created."""
        images = self.fields["image"].queryset  # type: ignore[attr-defined]
        missing = (
            (self.project is None, "There is no project yet: it would own the server."),
            (not ServerType.objects.exists(), "There are no server types: `manage.py catalogue`."),
            (not images.exists(), "No image is available yet: `manage.py image_add`."),
            (not Host.objects.exists(), "There are no hosts: add one, it would run the server."),
        )
        return [text for absent, text in missing if absent]

    def order(self) -> ServerOrder:
        data = self.cleaned_data
        return ServerOrder(
            name=data["name"],
            server_type=data["server_type"],
            image=data["image"],
            location=data["location"],
            ssh_keys=tuple(data["ssh_keys"]),
            user_data=data["user_data"],
            labels=data["labels"],
            start=data["start"],
            public_net=PublicNet(
                ipv4=data["public_ipv4"],
                ipv6=data["public_ipv6"],
                forwarded=data["forwarded_ports"] or None,
            ),
            firewalls=tuple(data["firewalls"]),
        )


class RenameForm(OrderForm):
    name = forms.CharField(max_length=128)
    labels = LabelsField()
