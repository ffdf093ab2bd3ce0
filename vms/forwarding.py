"""What a user may ask of the ports that lead to a server on a host in user mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from django.db import transaction

from cloud.audit import changing
from cloud.errors import CumuletError
from cloud.models import Action, Host
from vms.errands import Errand, ask_anew, done_errand, lock_vm, refuse_if_exclusive
from vms.interfaces import PUBLIC_INDEX
from vms.lifecycle import ActionGoal
from vms.models import VM, Nic
from vms.ports import Forward, check_forwards, lead

CHANGE = "change_forwarded_ports"


class NotBehindHost(CumuletError):
    """The server has addresses of its own, so all its ports are open to the world (HTTP 422)."""

    code: ClassVar[str] = "server_not_behind_host"


def change_forwarded_ports(vm: VM, forwards: Sequence[Forward]) -> Action:
    """Let ports of its host lead to exactly these of the server, also while it runs.

    Raises InvalidInput, LimitExceeded, Locked, NotBehindHost or ResourceUnavailable (no port free).
    """
    check_forwards(forwards)
    with transaction.atomic():
        host = Host.objects.select_for_update(no_key=True).get(pk=vm.host_id)
        vm = lock_vm(vm.pk)
        refuse_if_exclusive(vm)
        nic = _nic(vm)
        if {Forward(one.protocol, one.guest_port) for one in nic.led_ports} == set(forwards):
            return done_errand(vm, CHANGE)
        with changing(nic, CHANGE) as change:
            lead(nic, host, forwards)
            change.action = ask_anew(vm, Errand(CHANGE, ActionGoal.APPLIED))
        return change.action


def _nic(vm: VM) -> Nic:
    nic = vm.nics.filter(index=PUBLIC_INDEX, behind_host=True).first()
    if nic is None:
        instead = (
            ", or create another one with `public_net.forwarded_ports`"
            if vm.host.in_user_mode
            else "; only hosts in user mode forward ports"
        )
        raise NotBehindHost(
            f"server {vm} is not behind the address of its host, so no ports are forwarded to it:"
            f" reach it by its own address{instead}"
        )
    return nic
