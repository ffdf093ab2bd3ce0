"""What a user may ask of primary IPs where a server is concerned: create for it, assign, unassign.

The server must be off, as its interface changes. Everything else is in `networks.public_ips`.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import transaction

from cloud.actions import done_at_once
from cloud.audit import changing
from cloud.errors import Conflict, CumuletError, NotFound, invalid
from cloud.locks import hold_project
from cloud.models import Action, Project
from networks.models import IpType, PrimaryIp
from networks.public_ips import IpOrder, create_ip, existing, locked, set_dns_ptr
from vms.attachments import attach_primary_ip, check_place, detach_primary_ip, reach_of
from vms.errands import (
    Errand,
    ask_anew,
    done_errand,
    lock_vm,
    locked_vm,
    refuse_if_exclusive,
)
from vms.lifecycle import ActionGoal, Status
from vms.models import VM
from vms.spec import PowerGoal

_ASSIGN = "assign_primary_ip"
_UNASSIGN = "unassign_primary_ip"


class NotStopped(CumuletError):
    """The server must be off for this (HTTP 422)."""

    code: ClassVar[str] = "server_not_stopped"


class AlreadyAssigned(CumuletError):
    """The primary IP is a server's already (HTTP 422)."""

    code: ClassVar[str] = "primary_ip_already_assigned"


class HasIpv4(CumuletError):
    """The server has an IPv4 address already (HTTP 422)."""

    code: ClassVar[str] = "server_has_ipv4"


class HasIpv6(CumuletError):
    """The server has an IPv6 network already (HTTP 422)."""

    code: ClassVar[str] = "server_has_ipv6"


def create_primary_ip(
    project: Project, order: IpOrder, vm: VM | None = None
) -> tuple[PrimaryIp, Action | None]:
    """Lend an address, for this server if one is given.

    Raises what `create_ip` and `assign_primary_ip` raise.
    """
    if vm is None:
        return create_ip(PrimaryIp, project, order), None
    with transaction.atomic():
        hold_project(project.pk)
        vm = lock_vm(vm.pk)
        _check_assignee(vm, order.type)
        ip = create_ip(PrimaryIp, project, order, reach_of(vm))
        return ip, assign_primary_ip(ip, vm)


def assign_primary_ip(ip: PrimaryIp, vm: VM) -> Action:
    """Give the IP to a server that is off.

    Raises Locked, NotStopped, AlreadyAssigned, HasIpv4, HasIpv6, PrimaryIpElsewhere or
    InvalidInput (its interface is connected in another way).
    """
    with locked_vm(vm) as vm:
        ip = locked(ip)
        if ip.server_id is not None:
            raise AlreadyAssigned(f"primary IP {ip} is assigned to server #{ip.server_id}")
        _check_assignee(vm, IpType(ip.type))
        check_place(vm, ip)
        with changing(ip, "assign") as change:
            attach_primary_ip(vm, ip)
            change.action = _ask(vm, ip, _ASSIGN)
        return change.action


def unassign_primary_ip(ip: PrimaryIp) -> Action:
    """Take the IP from its server, which must be off; nothing to do if it has none.

    Raises Locked, NotStopped, NotFound, or Conflict (its server went at this moment).
    """
    server_id = existing(ip, PrimaryIp.objects.with_server()).server_id
    if server_id is None:
        return done_at_once(ip.project, _UNASSIGN, (ip.resource, ip.pk))
    with transaction.atomic():
        try:
            vm = lock_vm(server_id)
        except NotFound as error:
            raise _moved(ip) from error
        ip = locked(ip)
        if ip.server_id != server_id:
            raise _moved(ip)
        refuse_if_exclusive(vm)
        _check_off(vm)
        with changing(ip, "unassign") as change:
            detach_primary_ip(vm, ip)
            change.action = _ask(vm, ip, _UNASSIGN)
        return change.action


def change_server_dns_ptr(vm: VM, *, address: str, name: str | None) -> Action:
    """Name an address of the server's primary IPs in reverse; raises InvalidInput."""
    with locked_vm(vm) as vm:
        own = [ip for nic in vm.nics.all() for ip in nic.primary_ips]
        wanted = IpType.IPV6 if ":" in address else IpType.IPV4
        ip = next((ip for ip in own if ip.type == wanted), None)
        if ip is None:
            raise invalid("ip", f"{address} is not an address of server {vm}")
        ip = locked(ip)
        with changing(ip, "change_dns_ptr") as change:
            set_dns_ptr(ip, address, name)
            change.action = done_errand(vm, "change_dns_ptr")
        return change.action


def _moved(ip: PrimaryIp) -> Conflict:
    return Conflict(f"primary IP {ip} was moved at the same time: try again")


def _check_assignee(vm: VM, kind: IpType) -> None:
    refuse_if_exclusive(vm)
    _check_off(vm)
    for nic in vm.nics.all():
        if kind == IpType.IPV4 and (nic.ipv4 or nic.dhcp_network):
            raise HasIpv4(f"server {vm} has an IPv4 address already: unassign that one first")
        if kind == IpType.IPV6 and nic.ipv6:
            raise HasIpv6(f"server {vm} has an IPv6 network already: unassign that one first")


def _check_off(vm: VM) -> None:
    if vm.goal != PowerGoal.OFF or vm.status != Status.OFF:
        raise NotStopped(f"server {vm} is {vm.status}: switch it off first")


def _ask(vm: VM, ip: PrimaryIp, command: str) -> Action:
    errand = Errand(command, ActionGoal.APPLIED, about=((ip.resource, ip.pk),))
    return ask_anew(vm, errand)
