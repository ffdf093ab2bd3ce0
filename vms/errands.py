"""Errands: what a user asked of a server, opened as Actions while its row is locked.

Used by the modules with functions that users call: `vms.actions`, `vms.primary_ips`,
`vms.floating_ips`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from django.db import transaction

from cloud import steps
from cloud.actions import Aim, Resource, done_at_once, open_action
from cloud.errors import CumuletError, Locked, NotFound
from cloud.models import Action
from cloud.querysets import ActionQuerySet
from vms.intent import want
from vms.lifecycle import ActionGoal, HeldBack
from vms.models import VM
from vms.querysets import EXCLUSIVE_COMMANDS
from vms.spec import PowerGoal

# Seconds until an Action that did not get there is an error.
USUAL_SECONDS = 90


class NotVerified(CumuletError):
    """The inventory was restored, and the host has not said yet what it has of the server."""

    code: ClassVar[str] = "server_not_verified"
    status: ClassVar[int] = 423


class NotOnHost(CumuletError):
    """The inventory was restored, and the host has nothing of the server."""

    code: ClassVar[str] = "server_not_on_host"


@dataclass(frozen=True)
class Errand:
    """What an Action is called, which observation ends it, and within how many seconds.

    `about`: what it concerns beside the server.
    """

    command: str
    goal: ActionGoal
    seconds: int = USUAL_SECONDS
    about: tuple[Resource, ...] = ()


@contextmanager
def locked_vm(vm: VM) -> Iterator[VM]:
    """The VM as it is now, its row locked until the transaction ends; raises NotFound."""
    with transaction.atomic():
        yield lock_vm(vm.pk)


def lock_vm(pk: int) -> VM:
    """Like `locked_vm`, within a transaction. More than one: in the order of their numbers.

    Raises NotFound: the server may have gone while its row was waited for.
    """
    vm = VM.objects.for_spec().select_for_update(of=("self",)).filter(pk=pk).first()
    if vm is None:
        raise NotFound(f"server with ID '{pk}' not found")
    return vm


def refuse_if_exclusive(vm: VM) -> None:
    """Raises Locked while the server is being created or deleted."""
    busy = open_actions(vm).filter(command__in=EXCLUSIVE_COMMANDS).first()
    if vm.deleting or busy:
        what = "being deleted" if vm.deleting else f"locked by action {busy}"
        raise Locked(f"server {vm.name} is {what}: wait until that has ended")


def open_actions(vm: VM) -> ActionQuerySet:
    return Action.objects.open().of("server", vm.pk)


def ask(vm: VM, goal: PowerGoal, errand: Errand) -> Action:
    """Open the Action and raise the generation that it waits for.

    Raises NotVerified or NotOnHost, while it is held back since the inventory was restored. What a
    host has otherwise than the inventory says gives way to what a user asks for.
    """
    _check_held_back(vm)
    action = open_errand(vm, errand, generation=vm.generation + 1)
    steps.begin((action,), vm.host.name)
    want(vm, goal, action)
    return action


def ask_anew(vm: VM, errand: Errand) -> Action:
    """Like `ask`, with the goal as it is, once rows of the server were changed.

    It is read again, because the document for its host is made from what was read.
    """
    now = lock_vm(vm.pk)
    return ask(now, PowerGoal(now.goal), errand)


def _check_held_back(vm: VM) -> None:
    if not vm.deleting:
        if vm.held_back == HeldBack.UNVERIFIED:
            raise NotVerified(
                f"the inventory was restored, and host {vm.host} has not said yet what it has of"
                f" server {vm.name}: wait until it speaks, or delete the server"
            )
        if vm.held_back == HeldBack.GONE:
            raise NotOnHost(f"{vm.failure_message}")
    vm.held_back = ""


def open_errand(vm: VM, errand: Errand, *, generation: int | None = None) -> Action:
    generation = vm.generation if generation is None else generation
    aim = Aim(errand.command, errand.goal, generation, errand.seconds)
    return open_action(vm.project, aim, [*errand.about, ("server", vm.pk)])


def done_errand(vm: VM, command: str) -> Action:
    """An Action that had nothing to wait for."""
    return done_at_once(vm.project, command, ("server", vm.pk))
