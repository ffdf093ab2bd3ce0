"""No Action stays open for ever: it ends with the last step, its error, and what to do next."""

from __future__ import annotations

import ast
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from cloud.actions import Aim, open_action
from cloud.models import Action, Host
from cloud.wire import Cause, Failure, StepName, StepReport
from networks.models import IpType
from networks.public_ips import IpOrder
from tests import factories as make
from vms import reconcile, reports
from vms.actions import PowerCommand, delete_vm, power
from vms.floating_ips import assign_floating_ip, create_floating_ip
from vms.models import VM

pytestmark = [pytest.mark.django_db, pytest.mark.faults]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def vm() -> VM:
    make.host()
    make.pool()
    return make.ordered().vm


def later(seconds: float) -> datetime:
    return timezone.now() + timedelta(seconds=seconds)


def speak_until(moment: datetime) -> None:
    Host.objects.update(last_heartbeat=moment)


def ended(command: str = "create_server") -> Action:
    action = Action.objects.filter(command=command).latest("id")
    assert (action.status, action.error_code) == ("error", "timeout")
    return action


def failing(vm: VM, step: StepName, failure: Failure, **values: Any) -> None:
    """The host says that it is stuck in this step."""
    vm.refresh_from_db()
    assert vm.action is not None
    report = StepReport(step, timezone.now().timestamp(), 0.5, attempts=3, failure=failure)
    cause = Cause(vm.request_id, vm.action_id)
    facts = {"converged": False, "power": "off", "failure": failure, "steps": (report,), **values}
    reports.vm_report(make.report(vm, cause=cause, **facts), "host-h1")


def test_a_host_that_never_answered_is_named_with_its_last_word(vm: VM) -> None:
    silent_since = later(-3600)
    speak_until(silent_since)
    reconcile.end_overdue_actions(later(10_000))
    message = ended().error_message
    assert "create_server was not done within 900 s" in message
    assert "Last step: told h1 at" in message
    assert f"Host h1 has not answered since {silent_since:%Y-%m-%d %H:%M:%S} UTC" in message


def test_the_error_of_the_last_step_is_in_the_end_of_its_action(vm: VM) -> None:
    failing(vm, StepName.DISK, Failure("no_space", "the disk of h1 is full", retryable=True))
    moment = later(10_000)
    speak_until(moment)
    reconcile.end_overdue_actions(moment)
    message = ended().error_message
    assert "Last step: disk on h1" in message
    assert "attempt 3, failed" in message
    assert "Its error: no_space: the disk of h1 is full" in message
    assert "has not answered" not in message


def test_an_error_that_belongs_to_no_step_is_told_as_the_hosts_last_word(vm: VM) -> None:
    mute = Failure("qmp_silent", "QEMU runs and does not answer", retryable=True)
    reports.vm_report(make.report(vm, converged=False, power="unknown", failure=mute), "host-h1")
    moment = later(10_000)
    speak_until(moment)
    reconcile.end_overdue_actions(moment)
    assert "The host's last word: qmp_silent: QEMU runs" in ended().error_message


def test_a_host_that_was_cut_off_is_not_called_silent(vm: VM) -> None:
    Host.objects.update(last_heartbeat=None, revoked_at=timezone.now())
    reconcile.end_overdue_actions(later(10_000))
    assert "`host_add h1 --again` takes it back" in ended().error_message


def test_after_a_missed_deadline_a_server_can_be_used_and_deleted(vm: VM) -> None:
    reconcile.end_overdue_actions(later(10_000))
    assert power(vm, PowerCommand.POWEROFF).status == "running"
    assert delete_vm(vm).status == "running"
    reconcile.end_overdue_actions(later(20_000))
    again = delete_vm(vm)
    assert (again.status, again.command) == ("running", "delete_server")
    vm.refresh_from_db()
    reports.vm_report(make.report(vm), "host-h1")
    again.refresh_from_db()
    assert again.status == "success"
    assert not VM.objects.exists()


def test_a_deletion_that_is_asked_for_again_says_whom_it_waits_for(vm: VM) -> None:
    delete_vm(vm)
    reconcile.end_overdue_actions(later(10_000))
    delete_vm(vm)
    speak_until(later(-100))
    reconcile.end_overdue_actions(later(20_000))
    assert "Last step: told h1 at" in ended("delete_server").error_message


def test_more_overdue_actions_than_one_batch_all_end(
    vm: VM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "BATCH", 3)
    for number in range(11):
        aim = Aim("reboot_server", "applied", number + 1, 5)
        open_action(vm.project, aim, [("server", vm.pk)])
    assert reconcile.end_overdue_actions(later(10_000)) == 13
    assert not Action.objects.open().exists()


def test_an_action_about_a_server_that_is_gone_ends_too(vm: VM) -> None:
    open_action(vm.project, Aim("stop_server", "off", 1, 5), [("server", 987_654)])
    reconcile.end_overdue_actions(later(10_000))
    assert "Its server is gone" in ended("stop_server").error_message


@pytest.mark.parametrize("resource", ["network", "firewall", "floating_ip", "primary_ip", "image"])
def test_actions_of_every_kind_of_resource_end(vm: VM, resource: str) -> None:
    open_action(vm.project, Aim(f"change_{resource}", "applied", 1, 5), [(resource, 1)])
    reconcile.end_overdue_actions(later(10_000))
    assert "No step of it is known" in ended(f"change_{resource}").error_message


@pytest.mark.parametrize("seconds", [0, -5, 2 * 86_400])
def test_the_database_takes_no_action_without_an_end_in_sight(vm: VM, seconds: int) -> None:
    with pytest.raises(IntegrityError, match="action_deadline_within_a_day"), transaction.atomic():
        open_action(vm.project, Aim("stop_server", "off", 1, seconds), [("server", vm.pk)])


def test_no_other_function_than_open_action_makes_actions() -> None:
    makers = set()
    for package in ("cloud", "networks", "vms"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                    "Action",
                    "Action.objects.create",
                    "Action.objects.bulk_create",
                ):
                    makers.add(str(path.relative_to(ROOT)))
    assert makers == {"cloud/actions.py"}


def test_a_part_of_the_sweep_that_fails_does_not_keep_actions_open(
    vm: VM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(now: datetime) -> int:
        raise ZeroDivisionError("a row that nobody expected")

    monkeypatch.setattr(reconcile, "mark_unknown", broken)
    Action.objects.update(started=later(-400), deadline=later(-1))
    with pytest.raises(ZeroDivisionError):
        reconcile.sweep()
    assert not Action.objects.open().exists()


def test_a_move_names_the_host_that_does_not_let_go_of_the_address(vm: VM) -> None:
    reports.vm_report(make.report(vm), "host-h1")
    Host.objects.filter(name="h1").update(schedulable=False)
    make.host("h2")
    other = make.ordered("web-2").vm
    reports.vm_report(make.report(other), "host-h2")
    ip, _ = create_floating_ip(vm.project, IpOrder(IpType.IPV4, make.location()), vm)
    reports.vm_report(make.report(vm), "host-h1")
    action = assign_floating_ip(ip, VM.objects.get(pk=other.pk))
    reports.vm_report(make.report(other), "host-h2")
    moment = later(10_000)
    speak_until(moment)
    reconcile.end_overdue_actions(moment)
    message = ended(action.command).error_message
    assert "Host h1 has not let go of the floating IP yet" in message
