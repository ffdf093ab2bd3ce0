"""The sweep finds every gap: what no message reported is made good from the rows alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from cloud.models import Action, Host, IdempotencyKey
from tests import factories as make
from tests.db.test_images import manifest
from vms import reconcile, reports, usage
from vms.actions import PowerCommand, power
from vms.images import plan_copies, register_image
from vms.models import VM, Image, ImageCopy

pytestmark = pytest.mark.django_db


@pytest.fixture
def vm() -> VM:
    make.host()
    make.pool()
    return make.ordered().vm


def later(seconds: float) -> datetime:
    return timezone.now() + timedelta(seconds=seconds)


def speak_until(moment: datetime) -> None:
    Host.objects.update(last_heartbeat=moment)


def test_a_new_vm_is_given_time_before_it_is_dispatched_again(vm: VM) -> None:
    assert reconcile.dispatch_due_vms(timezone.now()) == 0
    speak_until(later(6))
    assert reconcile.dispatch_due_vms(later(6)) == 1


def test_each_further_attempt_waits_longer(vm: VM) -> None:
    moment = later(6)
    waits = []
    for _ in range(6):
        speak_until(moment)
        assert reconcile.dispatch_due_vms(moment) == 1
        vm.refresh_from_db()
        waits.append((vm.next_dispatch_at - moment).total_seconds())
        moment = vm.next_dispatch_at
    assert waits == [5, 10, 20, 40, 60, 60]


def test_a_vm_that_is_as_it_should_be_costs_nothing(vm: VM) -> None:
    reports.vm_report(make.report(vm), "host-h1")
    speak_until(later(60))
    assert reconcile.dispatch_due_vms(later(60)) == 0


def test_a_vm_nobody_spoke_of_for_long_is_asked_for_again(vm: VM) -> None:
    reports.vm_report(make.report(vm), "host-h1")
    speak_until(later(3600))
    assert reconcile.dispatch_due_vms(later(3600)) == 1


def test_a_silent_host_is_not_sent_messages_and_its_vms_are_unknown(vm: VM) -> None:
    reports.vm_report(make.report(vm), "host-h1")
    power(vm, PowerCommand.POWEROFF)
    Host.objects.update(last_heartbeat=later(-3600))
    assert reconcile.dispatch_due_vms(later(60)) == 0
    assert reconcile.mark_unknown(timezone.now()) == 1
    vm.refresh_from_db()
    assert vm.status == "unknown"


@pytest.mark.django_db(transaction=True)
def test_a_heartbeat_that_comes_in_meanwhile_is_not_overruled(
    parallel: Callable[..., list[Any]],
) -> None:
    """Else its servers would stay unknown, as the host is not silent when it speaks next."""
    make.host()
    make.pool()
    vm = make.ordered().vm
    reports.vm_report(make.report(vm), "host-h1")
    Host.objects.update(last_heartbeat=later(-3600))
    beating, swept = Event(), Event()

    def work(number: int) -> int:
        if number == 0:
            with transaction.atomic():
                host = Host.objects.select_for_update(no_key=True).get()
                beating.set()
                assert swept.wait(timeout=10)
                host.last_heartbeat = timezone.now()
                host.save()
            return 0
        assert beating.wait(timeout=10)
        try:
            return reconcile.mark_unknown(timezone.now())
        finally:
            swept.set()

    assert parallel(work, 2) == [0, 0]
    vm.refresh_from_db()
    assert vm.status == "running"


def test_an_action_past_its_deadline_is_an_error_and_the_vm_stays_usable(vm: VM) -> None:
    assert reconcile.end_overdue_actions(later(10_000)) == 2
    action = Action.objects.first()
    assert action is not None
    assert (action.status, action.error_code) == ("error", "timeout")
    assert power(vm, PowerCommand.POWEROFF).status == "running"


def test_a_guest_that_ignores_its_power_button_counts_as_running_again(vm: VM) -> None:
    reports.vm_report(make.report(vm), "host-h1")
    power(vm, PowerCommand.SHUTDOWN)
    pressed = make.report(vm, power="running", converged=False, button_pressed=True)
    reports.vm_report(pressed, "host-h1")
    assert reconcile.forgive_ignored_shutdowns(later(60)) == 0
    assert reconcile.forgive_ignored_shutdowns(later(180)) == 1
    vm.refresh_from_db()
    assert (vm.goal, vm.status) == ("running", "running")


def test_every_host_is_asked_for_every_image_and_none_twice_at_once() -> None:
    make.host("h1")
    make.host("h2")
    make.image(status=Image.Status.CREATING)
    plan_copies()
    now = timezone.now() + timedelta(seconds=1)
    assert reconcile.dispatch_due_images(now) == 2
    assert reconcile.dispatch_due_images(now) == 0
    assert ImageCopy.objects.count() == 2


def test_what_failed_finally_is_fetched_again_only_if_the_image_is_added_again() -> None:
    make.host()
    register_image(manifest())
    ImageCopy.objects.update(failure_final=True)
    assert reconcile.dispatch_due_images(later(1)) == 0
    register_image(manifest())
    assert reconcile.dispatch_due_images(later(1)) == 1


def test_a_sweep_that_missed_a_heartbeat_leaves_no_server_unknown(vm: VM) -> None:
    """It read the host before the heartbeat was written, and wrote its servers after that."""
    reports.vm_report(make.report(vm), "host-h1")
    VM.objects.update(status="unknown")
    assert reconcile.recognise(timezone.now()) == 1
    vm.refresh_from_db()
    assert vm.status == "running"


def test_what_a_host_itself_calls_unknown_stays_so_though_it_speaks(vm: VM) -> None:
    reports.vm_report(make.report(vm), "host-h1")
    reports.vm_report(make.report(vm, power="unknown", converged=False), "host-h1")
    assert reconcile.recognise(timezone.now()) == 0
    vm.refresh_from_db()
    assert vm.status == "unknown"


def test_a_clock_set_back_by_an_hour_keeps_nothing_from_being_sent(vm: VM) -> None:
    VM.objects.update(next_dispatch_at=later(3600))
    assert reconcile.dispatch_due_vms(timezone.now()) == 1


def test_an_action_of_before_the_clock_was_set_back_still_ends_in_its_time(vm: VM) -> None:
    action = Action.objects.get(command="create_server")
    took = action.deadline - action.started
    Action.objects.update(
        started=action.started + timedelta(hours=1), deadline=action.deadline + timedelta(hours=1)
    )
    now = timezone.now()
    assert reconcile.end_overdue_actions(now) == 0
    action.refresh_from_db()
    assert action.deadline == now + took
    assert reconcile.end_overdue_actions(now + took + timedelta(seconds=1)) == 2


def test_a_heartbeat_of_before_the_clock_was_set_back_says_nothing(vm: VM) -> None:
    Host.objects.update(last_heartbeat=later(3600))
    now = timezone.now()
    assert Host.objects.get().is_silent(now, 30)
    assert Host.objects.silent(now, 30).exists()
    assert not Host.objects.speaking(now, 30).exists()


def test_with_the_broker_away_silence_and_deadlines_are_still_seen(vm: VM) -> None:
    reports.vm_report(make.report(vm), "host-h1")
    power(vm, PowerCommand.POWEROFF)
    Host.objects.update(last_heartbeat=later(-3600))
    reconcile.watch(later(10_000))
    vm.refresh_from_db()
    assert vm.status == "unknown"
    assert not Action.objects.open().exists()


def test_what_cannot_be_forgotten_keeps_nothing_else_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(now: datetime) -> None:
        raise OSError("no")

    monkeypatch.setattr(usage, "condense", fail)
    IdempotencyKey.objects.create(
        project=make.project(), key="k", created=later(-7200 * 24), fingerprint="", status=200
    )
    with pytest.raises(OSError, match="no"):
        reconcile.tidy(timezone.now())
    assert not IdempotencyKey.objects.exists()


def test_what_looks_at_everything_is_done_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    monkeypatch.setattr(reconcile, "plan_copies", lambda: done.append(moment.second))
    for second in range(0, 60, 3):
        moment = datetime(2026, 1, 1, 12, 0, second, tzinfo=UTC)
        monkeypatch.setattr(timezone, "now", lambda moment=moment: moment)
        reconcile.sweep()
    assert done == [0]
