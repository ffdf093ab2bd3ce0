"""Which firewalls guard a server changes here: by request, by its labels, with its creation.

Whatever changes it, or what a firewall says, first holds the project (`cloud.locks`): so a new
server, a change of labels and a change of a firewall in one project never miss each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cloud import steps
from cloud.actions import Aim, open_action
from cloud.audit import changing
from cloud.errors import CumuletError, LimitExceeded, invalid
from cloud.models import Action
from networks.models import Firewall
from vms.attachments import has_public_interface
from vms.firewalls.effective import selectors_met
from vms.intent import tell_anew
from vms.lifecycle import ActionGoal, HeldBack
from vms.models import VM, FirewallUse

MAX_FIREWALLS = 5
APPLY = "apply_firewall"
REMOVE = "remove_firewall"
# Seconds until an Action whose host did not apply the rules is an error.
APPLY_SECONDS = 90


class PrivateOnly(CumuletError):
    """Firewalls guard public interfaces, and the server has none."""

    code = "private_net_only_server"

    def __init__(self, vm: VM) -> None:
        super().__init__(f"server {vm.name} has no public interface that a firewall could guard")


class Unenforceable(CumuletError):
    """A host without privileges cannot hold its servers to a firewall's rules (HTTP 422)."""

    code = "firewall_unenforceable"

    def __init__(self, vm: VM) -> None:
        super().__init__(
            f"host {vm.host} of server {vm.name} is in user mode and enforces no firewalls: leave"
            " the server out, by its labels too, or create it on another host"
        )


@dataclass(frozen=True)
class Change:
    """That a firewall came to a server, or says something else (APPLY), or went (REMOVE)."""

    command: str
    firewall_id: int


def guard_new(vm: VM, firewalls: Iterable[Firewall]) -> None:
    """Give a server that is just being created its firewalls, those by label included.

    Call with the project held. Raises InvalidInput if one was deleted meanwhile, PrivateOnly,
    Unenforceable or LimitExceeded.
    """
    wanted = list(dict.fromkeys(firewall.pk for firewall in firewalls))
    if wanted and not has_public_interface(vm):
        raise PrivateOnly(vm)
    if wanted:
        check_enforceable([vm])
    found = Firewall.objects.filter(project=vm.project_id).in_bulk(wanted)
    if gone := [pk for pk in wanted if pk not in found]:
        raise invalid("firewalls", f"{gone[0]} not found")
    for pk in wanted:
        with changing(found[pk], "apply"):
            FirewallUse.objects.create(vm=vm, firewall=found[pk], generation=vm.generation)
    _fit_labels(vm)
    _check_limit(vm)


def follow_labels(vm: VM) -> list[Action]:
    """The server's labels were changed: let the firewalls that follow them come and go.

    Call with the project held. Raises LimitExceeded or Unenforceable.
    """
    return [
        action
        for locked in lock_servers([vm.pk])
        for action in tell([locked.pk], _fit_labels(locked))
    ]


def lock_servers(vm_ids: Iterable[int]) -> list[VM]:
    """Those of the servers that are to stay, locked in the order of their ids.

    Call before their uses are written.
    """
    staying = VM.objects.filter(pk__in=set(vm_ids), deleting=False).select_related("host")
    return list(staying.order_by("pk").select_for_update(of=("self",)))


def tell(vm_ids: Iterable[int], changes: Sequence[Change]) -> list[Action]:
    """Raise the generation of each server once, and open an Action for each of the changes.

    Call after the changes were written, in their transaction. Servers of which their hosts have
    nothing since the inventory was restored can only be deleted. Raises LimitExceeded.
    """
    if not changes:
        return []
    staying = VM.objects.for_spec().filter(pk__in=set(vm_ids), deleting=False)
    vms = staying.exclude(held_back=HeldBack.GONE).order_by("pk")
    return [action for vm in vms.select_for_update(of=("self",)) for action in _tell(vm, changes)]


def check_enforceable(vms: Iterable[VM]) -> None:
    """Raises Unenforceable, so that no server ever seems guarded that is not."""
    for vm in vms:
        if vm.host.in_user_mode:
            raise Unenforceable(vm)


def unguard(vm: VM) -> None:
    """No firewall is used by a server that is being deleted; its host's rules end with it."""
    FirewallUse.objects.filter(vm=vm).delete()


def _fit_labels(vm: VM) -> list[Change]:
    """Make the uses by label fit the server's labels, and answer what that changes for it.

    Reads the selectors of the project and the server's own uses, however many servers there are.
    """
    met = selectors_met(vm.project_id, vm.labels)
    uses = FirewallUse.objects.filter(vm=vm)
    present = set(uses.values_list("selector", flat=True))
    before = set(uses.values_list("firewall", flat=True))
    if met.keys() - present:
        check_enforceable([vm])
    uses.exclude(selector=None).exclude(selector__in=met).delete()
    FirewallUse.objects.bulk_create(
        FirewallUse(
            vm=vm, firewall_id=selector.firewall_id, selector=selector, generation=vm.generation
        )
        for pk, selector in met.items()
        if pk not in present
    )
    after = set(uses.values_list("firewall", flat=True))
    return [
        *(Change(REMOVE, pk) for pk in sorted(before - after)),
        *(Change(APPLY, pk) for pk in sorted(after - before)),
    ]


def _tell(vm: VM, changes: Sequence[Change]) -> list[Action]:
    _check_limit(vm)
    actions = [
        open_action(
            vm.project,
            Aim(change.command, ActionGoal.APPLIED, vm.generation + 1, APPLY_SECONDS),
            [("server", vm.pk), ("firewall", change.firewall_id)],
        )
        for change in changes
    ]
    steps.begin(actions, vm.host.name)
    tell_anew(vm, actions[-1])
    changed = [change.firewall_id for change in changes]
    vm.firewall_uses.filter(firewall__in=changed).update(generation=vm.generation)
    return actions


def _check_limit(vm: VM) -> None:
    """Raises LimitExceeded if more firewalls guard the server than the contract allows."""
    if len({use.firewall_id for use in vm.firewall_uses.all()}) > MAX_FIREWALLS:
        raise LimitExceeded(
            "firewalls",
            f"server {vm.name} would have more than {MAX_FIREWALLS} firewalls: remove one first",
        )
