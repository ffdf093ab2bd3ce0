"""What a user may ask of a server. Every door (API, admin, commands) calls these functions.

Each writes the desired state, raises `generation` and opens an Action in one transaction; the
host hears of it after the commit. None of them waits for a host.
"""

from __future__ import annotations

import re
import secrets
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import bcrypt
from django.db import transaction

from cloud import steps
from cloud.audit import changing, created, write
from cloud.errors import CumuletError, Protected, invalid
from cloud.labels import check_labels
from cloud.locks import hold_project
from cloud.models import Action, Project
from cloud.naming import names_are_unique
from vms import dispatch
from vms.allocation import ServerOrder, claim
from vms.attachments import has_interface, let_go
from vms.errands import (
    Errand,
    ask,
    done_errand,
    locked_vm,
    open_actions,
    open_errand,
    refuse_if_exclusive,
)
from vms.firewalls.membership import follow_labels, guard_new, unguard
from vms.lifecycle import ActionGoal, Status
from vms.models import VM, Image
from vms.ports import check_forwards
from vms.private.servers import attach_new
from vms.spec import PowerGoal

__all__ = ["Ordered", "PowerCommand", "ServerOrder", "create_vm", "delete_vm", "power"]

USER_DATA_BYTES = 32 * 1024
# Seconds until an Action that did not get there is an error. A first start may fetch an image.
CREATE_SECONDS = 900
DELETE_SECONDS = 90

_CREATE = Errand("create_server", ActionGoal.APPLIED, CREATE_SECONDS)
_START_NEW = Errand("start_server", ActionGoal.RUNNING, CREATE_SECONDS)
_DELETE = Errand("delete_server", ActionGoal.REMOVED, DELETE_SECONDS)

_HOSTNAME_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")


class NoInterface(CumuletError):
    """A server without any network interface cannot be started."""

    code: ClassVar[str] = "server_has_no_interface"


class NotRunning(CumuletError):
    """The operation needs a running guest."""

    code: ClassVar[str] = "server_not_running"


class PowerCommand(StrEnum):
    """Power operations under their names in the API's paths."""

    POWERON = "poweron"
    POWEROFF = "poweroff"
    SHUTDOWN = "shutdown"
    REBOOT = "reboot"
    RESET = "reset"

    @property
    def action(self) -> str:
        return _COMMANDS[self]


_COMMANDS = {
    PowerCommand.POWERON: "start_server",
    PowerCommand.POWEROFF: "stop_server",
    PowerCommand.SHUTDOWN: "shutdown_server",
    PowerCommand.REBOOT: "reboot_server",
    PowerCommand.RESET: "reset_server",
}


@dataclass(frozen=True)
class Ordered:
    """A server that is on its way. `root_password` is set only if no SSH key was given."""

    vm: VM
    action: Action
    next_actions: tuple[Action, ...]
    root_password: str | None


def create_vm(project: Project, order: ServerOrder) -> Ordered:
    """Claim everything a new server needs and start making it.

    Raises InvalidInput, NotUnique (name), LimitExceeded, ResourceUnavailable (no room, no
    address), or what `vms.attachments.claim_primary_ip` says of a primary IP that was named,
    `vms.firewalls.membership.guard_new` of firewalls and `vms.private.membership.join` of networks.
    """
    check_hostname(order.name)
    check_labels(order.labels or {})
    _check_image(order.image)
    if len(order.user_data.encode()) > USER_DATA_BYTES:
        raise invalid("user_data", f"is longer than {USER_DATA_BYTES} bytes")
    check_forwards(order.public_net.forwarded or ())
    password = None if order.ssh_keys else secrets.token_urlsafe(15)
    # A high cost (60 ms) protects what people could guess; 120 random bits need none.
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(5)).decode() if password else ""
    with _names_are_unique(order.name), transaction.atomic():
        vm, placing = claim(project, order, hashed)
        attached = attach_new(vm)
        if order.start and not has_interface(vm):
            raise invalid(
                "public_net",
                "a server needs an address or a network to start: see start_after_create",
            )
        guard_new(vm, order.firewalls)
        vm.action = create = open_errand(vm, _CREATE)
        vm.request_id = create.request_id
        vm.save(update_fields=["action", "request_id"])
        starting = (open_errand(vm, _START_NEW),) if order.start else ()
        following = (*attached, *starting)
        steps.begin((create, *following), placing.host, placing)
        created(vm, action=create)
        dispatch.on_commit(vm)
    return Ordered(vm, create, following, password)


def update_vm(vm: VM, *, name: str | None = None, labels: dict[str, str] | None = None) -> VM:
    """Rename or relabel; the guest keeps its hostname. Firewalls follow the labels at once.

    Raises InvalidInput, NotUnique, LimitExceeded (firewalls), or Conflict if another request did
    so meanwhile.
    """
    wanted: dict[str, object] = {}
    if name is not None:
        wanted["name"] = check_hostname(name)
    if labels is not None:
        wanted["labels"] = check_labels(labels)
    if wanted:
        with _names_are_unique(name), transaction.atomic():
            if labels is not None:
                hold_project(vm.project_id)
            write(vm, wanted)
            if labels is not None:
                follow_labels(vm)
    return vm


def change_protection(vm: VM, *, delete: bool, rebuild: bool) -> Action:
    """Switch protection on or off, at once. Raises InvalidInput or Conflict."""
    if delete != rebuild:
        raise invalid("rebuild", "must be equal to 'delete'")
    with transaction.atomic():
        action = done_errand(vm, "change_protection")
        protection = {"delete_protection": delete, "rebuild_protection": rebuild}
        write(vm, protection, "change_protection", action)
        return action


def delete_vm(vm: VM) -> Action:
    """Begin to delete, from any state; repeating it answers the Action that is under way.

    The server stays `deleting`, and keeps its primary IPs, until its host proved that it is gone.
    """
    with locked_vm(vm) as vm, changing(vm, "delete") as change:
        if vm.deleting:
            if under_way := open_actions(vm).filter(command=_DELETE.command).first():
                return under_way
            again = open_errand(vm, _DELETE)
            steps.begin((again,), vm.host.name)
            return again
        if vm.delete_protection:
            raise Protected(f"server {vm.name} is protected from deletion: remove the protection")
        vm.deleting = True
        vm.held_back = ""
        let_go(vm)
        unguard(vm)
        change.action = ask(vm, PowerGoal.OFF, _DELETE)
        return change.action


def power(vm: VM, command: PowerCommand) -> Action:
    """Switch a server on or off, press its buttons.

    A later command replaces one that is under way. Raises Locked while the server is being
    created or deleted, NotRunning for a reboot or reset of a server that is off.
    """
    with locked_vm(vm) as vm, changing(vm, command.value) as change:
        refuse_if_exclusive(vm)
        change.action = _press(vm, command)
        return change.action


def check_hostname(name: str) -> str:
    """The name if it is an RFC 1123 hostname; raises InvalidInput."""
    labels = name.split(".")
    if len(name) > 128 or not all(_HOSTNAME_LABEL.match(label) for label in labels):
        raise invalid("name", f"{name!r} is not a hostname: use letters, digits, '-' and '.'")
    return name


def _check_image(image: Image) -> None:
    match image.status:
        case Image.Status.AVAILABLE:
            return
        case Image.Status.CREATING:
            advice = "wait until a host has it; its progress is in the admin"
        case _:
            advice = image.problem or "choose another one"
    raise invalid("image", f"{image} is {image.status}: {advice}")


def _press(vm: VM, command: PowerCommand) -> Action:
    off = vm.goal != PowerGoal.RUNNING
    match command:
        case PowerCommand.POWERON:
            return _power_on(vm)
        case PowerCommand.POWEROFF:
            if off and vm.status == Status.OFF:
                return done_errand(vm, command.action)
            return ask(vm, PowerGoal.OFF, Errand(command.action, ActionGoal.OFF))
        case PowerCommand.SHUTDOWN:
            if off:
                return done_errand(vm, command.action)
            return ask(vm, PowerGoal.SHUTDOWN, Errand(command.action, ActionGoal.PRESSED))
        case PowerCommand.REBOOT | PowerCommand.RESET:
            if off:
                raise NotRunning(f"server {vm.name} is off: switch it on first")
            if command is PowerCommand.RESET:
                vm.reset_serial += 1
            else:
                vm.reboot_serial += 1
            return ask(vm, PowerGoal.RUNNING, Errand(command.action, ActionGoal.APPLIED))


def _power_on(vm: VM) -> Action:
    command = PowerCommand.POWERON.action
    if vm.goal == PowerGoal.RUNNING and vm.status == Status.RUNNING:
        return done_errand(vm, command)
    if not has_interface(vm):
        raise NoInterface(f"server {vm.name} has no network interface: give it one first")
    return ask(vm, PowerGoal.RUNNING, Errand(command, ActionGoal.RUNNING))


def _names_are_unique(name: str | None) -> AbstractContextManager[None]:
    return names_are_unique("vm_name_unique", "server", name)
