"""What a user may ask of floating IPs where a server is concerned: create for it, assign, unassign.

A move raises the generation of both servers: the host of the new one begins to lead the address
there, the host of the old one stops, and neither waits for the other. Everything else is in
`networks.public_ips`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from cloud.actions import done_at_once, end_action
from cloud.audit import changing
from cloud.errors import Conflict, CumuletError, Locked, invalid
from cloud.locks import hold_project
from cloud.models import Action, Host, Project
from networks.models import FloatingIp, Withdrawal
from networks.public_ips import IpOrder, create_ip, existing, locked
from vms.attachments import attach_floating_ip, detach_floating_ip, reach_of
from vms.errands import Errand, ask_anew, lock_vm
from vms.intent import tell_anew
from vms.lifecycle import ActionGoal, HeldBack
from vms.models import VM

_ASSIGN = "assign_floating_ip"
_UNASSIGN = "unassign_floating_ip"


class FloatingIpAssigned(CumuletError):
    """The floating IP is at this server already (HTTP 422)."""

    code: ClassVar[str] = "floating_ip_assigned"


def create_floating_ip(
    project: Project, order: IpOrder, vm: VM | None = None
) -> tuple[FloatingIp, Action | None]:
    """Lend an address, led to this server if one is given.

    Raises what `create_ip` and `assign_floating_ip` raise.
    """
    if vm is None:
        return create_ip(FloatingIp, project, order), None
    with transaction.atomic():
        hold_project(project.pk)
        ip = create_ip(FloatingIp, project, order, reach_of(lock_vm(vm.pk)))
        return ip, assign_floating_ip(ip, vm)


def assign_floating_ip(ip: FloatingIp, vm: VM) -> Action:
    """Lead the IP to this server, away from the one that has it.

    Raises FloatingIpAssigned, Locked (being deleted) or InvalidInput (another location, or no
    interface for it).
    """
    with transaction.atomic():
        old, new, ip = _lock(ip, vm)
        assert new is not None
        if old == new:
            raise FloatingIpAssigned(f"floating IP {ip} is assigned to server {new} already")
        if new.deleting:
            raise Locked(f"server {new} is being deleted")
        if new.host.location != ip.location:
            raise invalid(
                "server", f"{new} is in location {new.host.location}, {ip} in {ip.location}"
            )
        with changing(ip, "assign") as change:
            if old:
                detach_floating_ip(old, ip, moving=True)
            attach_floating_ip(new, ip)
            change.action = _ask(new, ip, _ASSIGN)
            if old:
                tell_anew(lock_vm(old.pk), change.action)
        return change.action


def unassign_floating_ip(ip: FloatingIp) -> Action:
    """Lead the IP to no server any more; nothing to do if it is at none."""
    with transaction.atomic():
        old, _, ip = _lock(ip, None)
        if old is None:
            return done_at_once(ip.project, _UNASSIGN, (ip.resource, ip.pk))
        with changing(ip, "unassign") as change:
            detach_floating_ip(old, ip)
            change.action = _ask(old, ip, _UNASSIGN)
        return change.action


def is_moving(action: Action) -> bool:
    """Whether the host that had the floating IP before has not let go of it yet.

    A silent host is not waited for: away from such a one is where IPs are moved. Nor is one that
    said that it has nothing of the server.
    """
    if action.command != _ASSIGN:
        return False
    # Two hosts may report at once; the later one must see what the earlier one wrote.
    ip = FloatingIp.objects.select_for_update(of=("self",), no_key=True).filter(
        pk__in=action.resources.filter(type=FloatingIp.resource).values("resource_id")
    )
    speaking = Host.objects.speaking(timezone.now(), settings.HOST_SILENT_SECONDS)
    holders = Withdrawal.objects.filter(
        address__in=[one.address_id for one in ip],
        server_id__in=VM.objects.filter(host__in=speaking)
        .exclude(held_back=HeldBack.GONE)
        .values("pk"),
        holding=None,
    )
    return holders.exists()


def finish_moves(address_ids: Iterable[int]) -> None:
    """Hosts let go of these addresses: end the moves that waited for nothing else."""
    moved = FloatingIp.objects.filter(address__in=list(address_ids), assignment__isnull=False)
    for ip in moved:
        moves = Action.objects.open().of(FloatingIp.resource, ip.pk).filter(command=_ASSIGN)
        for action in moves:
            arrived = VM.objects.filter(
                pk__in=action.resources.filter(type="server").values("resource_id"),
                converged=True,
                observed_generation__gte=action.generation,
            )
            # In this order: the lock of the first makes the second see what is written by now.
            if not is_moving(action) and arrived.exists():
                end_action(action, timezone.now())


def _lock(ip: FloatingIp, vm: VM | None) -> tuple[VM | None, VM | None, FloatingIp]:
    """The server that has the IP, the server `vm`, and the IP as they are now, rows locked."""
    old = existing(ip, FloatingIp.objects.with_server()).server_id
    numbers = {pk for pk in (old, vm.pk if vm else None) if pk is not None}
    servers = {pk: lock_vm(pk) for pk in sorted(numbers)}
    ip = locked(ip)
    if ip.server_id != old:
        raise Conflict(f"floating IP {ip} was moved at the same time: try again")
    return servers[old] if old else None, servers[vm.pk] if vm else None, ip


def _ask(vm: VM, ip: FloatingIp, command: str) -> Action:
    errand = Errand(command, ActionGoal.APPLIED, about=((ip.resource, ip.pk),))
    return ask_anew(vm, errand)
