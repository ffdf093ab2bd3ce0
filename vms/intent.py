"""Change what should be: the next generation of a VM's desired state, and its derived status.

The only writer of the desired half of a VM after its creation. Users' wishes come from
`vms.actions`, the cloud's own from `vms.reports` and `vms.reconcile`.
"""

from __future__ import annotations

from django.conf import settings
from django.utils import timezone

from cloud import requestid
from cloud.models import Action, Host
from cloud.patience import HINT_PATIENCE
from vms import dispatch
from vms.attachments import let_go
from vms.lifecycle import Facts, HeldBack, status_of
from vms.models import VM
from vms.spec import Power, PowerGoal


def want(vm: VM, goal: PowerGoal, action: Action | None = None) -> None:
    """Raise the generation and tell the host after the commit, unless it is held back.

    `action`: the one that was opened for it, by a user's request. Call with the row locked, in a
    transaction; other changed fields of the row are saved too.
    """
    now = timezone.now()
    vm.goal = goal
    vm.generation += 1
    vm.request_id = action.request_id if action else requestid.now()
    vm.action = action
    vm.goal_since = now
    vm.converged = False
    if not vm.held_back:  # then they say why
        vm.failure_code = vm.failure_message = ""
    vm.failure_final = False
    vm.attempts = 0
    vm.next_dispatch_at = now + HINT_PATIENCE
    set_status(vm)
    vm.save()
    if not vm.held_back:
        dispatch.on_commit(vm)


def tell_anew(vm: VM, action: Action | None = None) -> None:
    """Like `want`, with the goal as it is: something that the server has was changed by a user.

    What its host has otherwise than a restored inventory says gives way to that.
    """
    if vm.held_back == HeldBack.DIFFERS:
        vm.held_back = ""
    want(vm, PowerGoal(vm.goal), action)


def abandon(vm: VM) -> None:
    """Take back a server that could not be made; like `want`."""
    vm.deleting = True
    let_go(vm)
    want(vm, PowerGoal.OFF)


def set_status(vm: VM) -> None:
    """Derive the status from the facts; the caller saves."""
    vm.status = status_of(
        Facts(
            goal=PowerGoal(vm.goal),
            deleting=vm.deleting,
            provisioned=vm.provisioned,
            power=Power(vm.observed_power),
            failed=vm.failure_final,
            host_silent=_is_silent(vm.host),
        )
    )


def _is_silent(host: Host) -> bool:
    now = timezone.now()
    if not host.is_silent(now, settings.HOST_SILENT_SECONDS):
        return False
    # It was read beside the VM's row: if that was locked by a heartbeat, before the heartbeat.
    host.refresh_from_db(fields=["last_heartbeat"])
    return host.is_silent(now, settings.HOST_SILENT_SECONDS)
