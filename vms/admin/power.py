"""What operators may do to servers, and what they are told before they say yes."""

from __future__ import annotations

from functools import partial

from django.utils.html import format_html
from django.utils.safestring import SafeString

from cloud.admin.activity import words
from cloud.admin.display import Tone, link
from cloud.admin.operations import Effect, Operation
from cloud.models import Action
from vms.actions import PowerCommand, change_protection, delete_vm, power
from vms.lifecycle import Status
from vms.models import VM
from vms.spec import PowerGoal

_LATER = " Its host is silent: this happens once it speaks again, or fails after a while."


def power_effect(vm: VM, command: PowerCommand) -> Effect:
    """What the command will do to the server, judged by what is known now."""
    if vm.deleting:
        return Effect("is being deleted: will be refused", Tone.WARN)
    if not vm.provisioned:
        return Effect("is still being created: will be refused until that has ended", Tone.WARN)
    later = _LATER if vm.status == Status.UNKNOWN else ""
    match command:
        case PowerCommand.POWERON:
            if vm.status == Status.RUNNING:
                return Effect("runs already: nothing changes")
            return Effect(f"starts.{later}", Tone.GOOD)
        case PowerCommand.POWEROFF | PowerCommand.SHUTDOWN if vm.status == Status.OFF:
            return Effect("is off already: nothing changes")
        case PowerCommand.POWEROFF:
            return Effect(f"loses power at once; what the guest has not saved is lost.{later}")
        case PowerCommand.SHUTDOWN:
            return Effect(f"gets its power button pressed and shuts itself down.{later}")
        case PowerCommand.REBOOT | PowerCommand.RESET if vm.goal != PowerGoal.RUNNING:
            return Effect("is off: will be refused, switch it on instead", Tone.WARN)
        case PowerCommand.REBOOT:
            return Effect(f"is asked to restart.{later}")
        case PowerCommand.RESET:
            return Effect(f"restarts at once; what the guest has not saved is lost.{later}")


def delete_effect(vm: VM) -> Effect:
    """What deleting takes away."""
    if vm.deleting:
        return Effect("is being deleted already")
    if vm.delete_protection:
        return Effect("is protected: will be refused", Tone.WARN)
    primary = [ip for nic in vm.nics.all() for ip in nic.primary_ips]
    lost = ", ".join(str(ip.address) for ip in primary if ip.auto_delete)
    kept = f" {lost} goes back to its pool when the host is done." if lost else ""
    return Effect(f"is destroyed, its {vm.disk_gb} GiB disk with it.{kept}", Tone.BAD)


def _power(vm: VM, command: PowerCommand) -> SafeString:
    return _asked(vm, power(vm, command))


def _delete(vm: VM) -> SafeString:
    return _asked(vm, delete_vm(vm))


def _protect(vm: VM, on: bool) -> str:
    change_protection(vm, delete=on, rebuild=on)
    return f"{vm} is protected from deletion." if on else f"{vm} can be deleted."


def _asked(vm: VM, action: Action) -> SafeString:
    what = words(action.command)
    if action.status == Action.Status.SUCCESS:
        return format_html("{}: {} was so already.", what, vm)
    return format_html("{} was asked of {}: {}", what, vm, link(action, f"action #{action.pk}"))


def _power_operation(
    command: PowerCommand, verb: str, icon: str, explanation: str, *, hard: bool = False
) -> Operation:
    return Operation(
        name=command.value,
        verb=verb,
        icon=icon,
        permission="vms.change_vm",
        explanation=explanation,
        effect=partial(power_effect, command=command),
        run=partial(_power, command=command),
        offered=_startable if command is PowerCommand.POWERON else _stoppable,
        dangerous=hard,
    )


def _startable(vm: VM) -> bool:
    return not vm.deleting and vm.provisioned and vm.status != Status.RUNNING


def _stoppable(vm: VM) -> bool:
    return not vm.deleting and vm.provisioned and vm.status != Status.OFF


SERVER_OPERATIONS = (
    _power_operation(
        PowerCommand.POWERON,
        "Power on",
        "play_arrow",
        "The server starts with the disk and the address that it has.",
    ),
    _power_operation(
        PowerCommand.SHUTDOWN,
        "Shut down",
        "power_settings_new",
        "The power button is pressed once, as on a real machine. A guest that ignores it for two"
        " minutes counts as running again.",
    ),
    _power_operation(
        PowerCommand.REBOOT,
        "Reboot",
        "restart_alt",
        "The guest is asked to restart and saves its data first.",
    ),
    _power_operation(
        PowerCommand.RESET,
        "Reset",
        "bolt",
        "The reset button: the guest restarts at once and saves nothing.",
        hard=True,
    ),
    _power_operation(
        PowerCommand.POWEROFF,
        "Power off",
        "power_off",
        "The plug is pulled: the guest stops at once and saves nothing. Shutting down is gentler.",
        hard=True,
    ),
    Operation(
        name="protect",
        verb="Protect",
        icon="lock",
        permission="vms.change_vm",
        explanation="A protected server cannot be deleted until the protection is removed.",
        effect=lambda vm: Effect(
            "is protected already" if vm.delete_protection else "cannot be deleted any more"
        ),
        run=partial(_protect, on=True),
        offered=lambda vm: not vm.delete_protection and not vm.deleting,
    ),
    Operation(
        name="unprotect",
        verb="Remove protection",
        icon="lock_open",
        permission="vms.change_vm",
        explanation="The server can be deleted afterwards.",
        effect=lambda vm: Effect("can be deleted" if vm.delete_protection else "is not protected"),
        run=partial(_protect, on=False),
        offered=lambda vm: vm.delete_protection and not vm.deleting,
    ),
    Operation(
        name="destroy",
        verb="Delete",
        icon="delete",
        permission="vms.delete_vm",
        explanation="The server, its disk and everything on it are destroyed. There is no way back."
        " It shows as deleting until its host has proved that nothing is left.",
        effect=delete_effect,
        run=_delete,
        offered=lambda vm: not vm.deleting,
        dangerous=True,
    ),
)
