"""What a user may ask of a server. Every door (API, admin, commands) calls these functions.

Each writes the desired state, raises `generation` and opens an Action in one transaction; the
host hears of it after the commit. None of them waits for a host.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import bcrypt
from django.db import IntegrityError, transaction
from django.utils import timezone

from cloud import steps
from cloud.actions import Aim, end_action, open_action
from cloud.errors import CumuletError, Locked, NotUnique, Protected, invalid
from cloud.labels import check_labels
from cloud.models import Action, Project
from cloud.querysets import ActionQuerySet
from vms import dispatch
from vms.allocation import ServerOrder, claim
from vms.firewalls.membership import detach, follow_labels, guard_new, hold
from vms.intent import want
from vms.lifecycle import ActionGoal, Status
from vms.models import VM, Image
from vms.querysets import EXCLUSIVE_COMMANDS
from vms.spec import PowerGoal

__all__ = ["Ordered", "PowerCommand", "ServerOrder", "create_vm", "delete_vm", "power"]

USER_DATA_BYTES = 32 * 1024
# Seconds until an Action that did not get there is an error. A first start may fetch an image.
CREATE_SECONDS = 900
POWER_SECONDS = 90
DELETE_SECONDS = 90


@dataclass(frozen=True)
class _Errand:
    """What an Action is called, which observation ends it, and within how many seconds."""

    command: str
    goal: ActionGoal
    seconds: int = POWER_SECONDS


_CREATE = _Errand("create_server", ActionGoal.APPLIED, CREATE_SECONDS)
_START_NEW = _Errand("start_server", ActionGoal.RUNNING, CREATE_SECONDS)
_DELETE = _Errand("delete_server", ActionGoal.REMOVED, DELETE_SECONDS)

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

    Raises InvalidInput, NotUnique (name) or ResourceUnavailable (no room, no address).
    """
    check_hostname(order.name)
    check_labels(order.labels or {})
    if order.image.status != Image.Status.AVAILABLE:
        raise invalid("image", f"{order.image} is {order.image.status}: {order.image.problem}")
    if len(order.user_data.encode()) > USER_DATA_BYTES:
        raise invalid("user_data", f"is longer than {USER_DATA_BYTES} bytes")
    if order.start and not order.public_ipv4:
        raise invalid("public_net", "a server needs an address to start: set start_after_create")
    password = None if order.ssh_keys else secrets.token_urlsafe(15)
    # A high cost (60 ms) protects what people could guess; 120 random bits need none.
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(5)).decode() if password else ""
    with _names_are_unique(order.name), transaction.atomic():
        vm, placing = claim(project, order, hashed)
        guard_new(vm, order.firewalls)
        vm.action = create = _open(vm, _CREATE)
        vm.request_id = create.request_id
        vm.save(update_fields=["action", "request_id"])
        following = (_open(vm, _START_NEW),) if order.start else ()
        steps.begin((create, *following), placing.host, placing)
        dispatch.on_commit(vm)
    return Ordered(vm, create, following, password)


def update_vm(vm: VM, *, name: str | None = None, labels: dict[str, str] | None = None) -> VM:
    """Rename or relabel; the guest keeps its hostname. Firewalls follow the labels at once.

    Raises InvalidInput, NotUnique or LimitExceeded (firewalls).
    """
    fields = []
    if name is not None:
        vm.name = check_hostname(name)
        fields.append("name")
    if labels is not None:
        vm.labels = check_labels(labels)
        fields.append("labels")
    if fields:
        with _names_are_unique(vm.name), transaction.atomic():
            if labels is not None:
                hold(vm.project_id)
            vm.save(update_fields=fields)
            if labels is not None:
                follow_labels(vm)
    return vm


def change_protection(vm: VM, *, delete: bool, rebuild: bool) -> Action:
    """Switch protection on or off, at once."""
    if delete != rebuild:
        raise invalid("rebuild", "must be equal to 'delete'")
    with transaction.atomic():
        VM.objects.filter(pk=vm.pk).update(delete_protection=delete, rebuild_protection=rebuild)
        return _done(vm, "change_protection")


def delete_vm(vm: VM) -> Action:
    """Begin to delete, from any state; repeating it answers the Action that is under way.

    The server stays `deleting`, and keeps its address, until its host proved that it is gone.
    """
    with _locked(vm) as vm:
        if vm.deleting:
            return _open_actions(vm).filter(command=_DELETE.command).first() or _open(vm, _DELETE)
        if vm.delete_protection:
            raise Protected(f"server {vm.name} is protected from deletion: remove the protection")
        vm.deleting = True
        detach(vm)
        return _ask(vm, PowerGoal.OFF, _DELETE)


def power(vm: VM, command: PowerCommand) -> Action:
    """Switch a server on or off, press its buttons.

    A later command replaces one that is under way. Raises Locked while the server is being
    created or deleted, NotRunning for a reboot or reset of a server that is off.
    """
    with _locked(vm) as vm:
        _refuse_if_exclusive(vm)
        off = vm.goal != PowerGoal.RUNNING
        match command:
            case PowerCommand.POWERON:
                return _power_on(vm)
            case PowerCommand.POWEROFF:
                if off and vm.status == Status.OFF:
                    return _done(vm, command.action)
                return _ask(vm, PowerGoal.OFF, _Errand(command.action, ActionGoal.OFF))
            case PowerCommand.SHUTDOWN:
                if off:
                    return _done(vm, command.action)
                return _ask(vm, PowerGoal.SHUTDOWN, _Errand(command.action, ActionGoal.PRESSED))
            case PowerCommand.REBOOT | PowerCommand.RESET:
                if off:
                    raise NotRunning(f"server {vm.name} is off: switch it on first")
                if command is PowerCommand.RESET:
                    vm.reset_serial += 1
                else:
                    vm.reboot_serial += 1
                return _ask(vm, PowerGoal.RUNNING, _Errand(command.action, ActionGoal.APPLIED))


def check_hostname(name: str) -> str:
    """The name if it is an RFC 1123 hostname; raises InvalidInput."""
    labels = name.split(".")
    if len(name) > 128 or not all(_HOSTNAME_LABEL.match(label) for label in labels):
        raise invalid("name", f"{name!r} is not a hostname: use letters, digits, '-' and '.'")
    return name


def _power_on(vm: VM) -> Action:
    command = PowerCommand.POWERON.action
    if vm.goal == PowerGoal.RUNNING and vm.status == Status.RUNNING:
        return _done(vm, command)
    if not vm.nics.exists():
        raise NoInterface(f"server {vm.name} has no network interface: give it one first")
    return _ask(vm, PowerGoal.RUNNING, _Errand(command, ActionGoal.RUNNING))


@contextmanager
def _locked(vm: VM) -> Iterator[VM]:
    """The VM as it is now, its row locked until the transaction ends."""
    with transaction.atomic():
        yield VM.objects.for_spec().select_for_update(of=("self",)).get(pk=vm.pk)


def _refuse_if_exclusive(vm: VM) -> None:
    busy = _open_actions(vm).filter(command__in=EXCLUSIVE_COMMANDS).first()
    if vm.deleting or busy:
        what = "being deleted" if vm.deleting else f"locked by action {busy}"
        raise Locked(f"server {vm.name} is {what}: wait until that has ended")


def _open_actions(vm: VM) -> ActionQuerySet:
    return Action.objects.open().of("server", vm.pk)


def _ask(vm: VM, goal: PowerGoal, errand: _Errand) -> Action:
    """Open the Action and raise the generation that it waits for."""
    action = _open(vm, errand, generation=vm.generation + 1)
    steps.begin((action,), vm.host.name)
    want(vm, goal, action)
    return action


def _open(vm: VM, errand: _Errand, *, generation: int | None = None) -> Action:
    generation = vm.generation if generation is None else generation
    aim = Aim(errand.command, errand.goal, generation, errand.seconds)
    return open_action(vm.project, aim, [("server", vm.pk)])


def _done(vm: VM, command: str) -> Action:
    """An Action that had nothing to wait for."""
    action = _open(vm, _Errand(command, ActionGoal.APPLIED))
    end_action(action, timezone.now())
    return action


@contextmanager
def _names_are_unique(name: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        if "vm_name_unique" not in str(error):
            raise
        raise NotUnique("name", f"server name '{name}' is already used") from error
