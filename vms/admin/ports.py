"""Ports of a host in user mode that lead to a server, as a person reads and changes them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.safestring import SafeString

from cloud.admin.display import Tone, badge, code
from cloud.admin.forms import OrderForm, Section
from cloud.admin.page import Cell, Table
from cloud.admin.rowforms import Entry, RowForm
from vms.forwarding import change_forwarded_ports
from vms.interfaces import PUBLIC_INDEX
from vms.models import VM, ForwardedPort, Nic
from vms.ports import SSH, Forward

PORTS = Entry("ports", "Change forwarded ports", "alt_route")


class PortsField(forms.CharField):
    """Ports of a server, one `22/tcp` per line. Their rules are checked by the action."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            required=False,
            widget=forms.Textarea(attrs={"rows": 3, "placeholder": "22/tcp"}),
            **kwargs,
        )

    def to_python(self, value: Any) -> tuple[Forward, ...]:  # type: ignore[override]
        return tuple(_parsed(word) for word in (value or "").split())

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, list):
            return "\n".join(f"{one.guest_port}/{one.protocol}" for one in value)
        return value


class PortsForm(OrderForm):
    forwarded_ports = PortsField(
        label="Ports of the server",
        help_text="One a line; which of the host's lead there is chosen.",
    )


def nic_behind_host(vm: VM) -> Nic | None:
    """Its interface behind its host's address, if it has such a one; needs its NICs prefetched."""
    public = (nic for nic in vm.nics.all() if nic.index == PUBLIC_INDEX and nic.behind_host)
    return next(public, None)


def endpoints(vm: VM) -> list[str]:
    """Where the server is reached at its host, that of SSH first."""
    nic = nic_behind_host(vm)
    ports = sorted(nic.led_ports if nic else [], key=lambda one: not _is_ssh(one))
    return [f"{vm.host.forward_ip or vm.host}:{one.port}" for one in ports]


def login(vm: VM) -> SafeString | str:
    """The command that logs in through the host, if a port leads to SSH."""
    nic = nic_behind_host(vm)
    ssh = next((one for one in nic.led_ports if _is_ssh(one)), None) if nic else None
    return code(f"ssh -p {ssh.port} root@{vm.host.forward_ip or vm.host}") if ssh else ""


def ports_tables(vm: VM) -> list[Table]:
    """None for a server with addresses of its own."""
    nic = nic_behind_host(vm)
    if nic is None:
        return []
    rows: list[list[Cell]] = [
        [
            code(f"{vm.host.forward_ip or vm.host}:{one.port}"),
            code(f"{one.guest_port}/{one.protocol}"),
            _state(vm, one),
        ]
        for one in nic.forwards.all()
    ]
    headers = ("At its host", "Port of the server", "State")
    return [Table("Forwarded ports", headers, rows, "Nothing leads to it from outside.")]


def ports_form(vm: VM, sent: Any) -> RowForm:
    nic = nic_behind_host(vm)
    form = PortsForm(sent, initial={"forwarded_ports": nic.led_ports if nic else []})

    def change(data: dict[str, Any]) -> str:
        change_forwarded_ports(vm, data["forwarded_ports"])
        return f"The forwarded ports of {vm} are changed; its host is being told."

    note = "It need not stop for this. A port that stays keeps its number at the host."
    section = Section("Forwarded ports", ("forwarded_ports",))
    return RowForm(form, f"Change the forwarded ports of {vm}", section, change, note)


def _parsed(word: str) -> Forward:
    port, _, protocol = word.partition("/")
    if not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise ValidationError(f"“{word}” is not of the form 22/tcp.")
    return Forward(protocol or "tcp", int(port))


def _is_ssh(row: ForwardedPort) -> bool:
    return Forward(row.protocol, row.guest_port) == SSH


def _state(vm: VM, row: ForwardedPort) -> SafeString:
    if row.withdrawn is not None:
        hint = "Its host has not proved yet that it let go."
        return badge("going", Tone.BUSY, moving=True, hint=hint)
    if not vm.converged:
        return badge("asked for", Tone.BUSY, moving=True, hint="Its host has not said so yet.")
    return badge("open", Tone.GOOD)
