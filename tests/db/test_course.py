"""Every Action keeps its course, and what is sent again is sent for the same request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from kombu import Connection, Exchange, Queue
from kombu.simple import SimpleQueue

from cloud import requestid
from cloud import steps as course_steps
from cloud.broker import HOSTS_EXCHANGE, declare_cloud
from cloud.models import Action, ActionStep, Host
from cloud.wire import Cause, Failure, StepName, StepReport
from tests import factories as make
from vms import reconcile, reports
from vms.actions import PowerCommand, delete_vm, power
from vms.models import VM, ImageCopy
from vms.spec import Power

pytestmark = [pytest.mark.django_db, pytest.mark.trace]
SENDER = "host-h1"
NO_SPACE = Failure("host_io_failed", "no space left on device", retryable=True)


@pytest.fixture
def vm() -> VM:
    """A server that the request `r-1` asked for."""
    make.host()
    make.pool()
    with requestid.bound("r-1"):
        return make.ordered().vm


def course(command: str = "create_server") -> list[tuple[str, int, str, bool]]:
    """Name, attempt, error and whether it has ended, of each step of the newest such Action."""
    action = Action.objects.filter(command=command).latest("pk")
    return [
        (step.name, step.attempt, step.error_code, step.finished is not None)
        for step in action.steps.all()
    ]


def worked(vm: VM, *steps: StepReport, **facts: Any) -> None:
    """The host reports what it did for the VM's present generation."""
    vm.refresh_from_db()
    cause = Cause(vm.request_id, vm.action_id)
    facts = {"accepted_at": time.time(), **facts}
    reports.vm_report(make.report(vm, steps=steps, cause=cause, **facts), SENDER)


def test_a_host_that_says_ever_more_of_an_action_is_not_written_down_for_ever(
    vm: VM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course_steps, "MOST_STEPS", 10)
    for seq in range(5):
        done = [StepReport(StepName.DISK, time.time() + n, 1.0) for n in range(4)]
        worked(vm, *done, seq=seq + 1)
    assert len(course()) == 10


def test_a_new_server_was_placed_and_waits_for_its_host(vm: VM) -> None:
    expected = [("placed", 1, "", True), ("queued", 1, "", False)]
    assert course("create_server") == course("start_server") == expected


def test_why_another_host_was_not_chosen_stays_with_the_action() -> None:
    make.host("h1", memory_mb=4096)
    make.host("h2", memory_mb=8192)
    make.host("h3", schedulable=False)
    make.pool()
    action = make.ordered().action
    placed = action.steps.get(name="placed")
    assert placed.host == "h2"
    assert placed.passed_over == {
        "h1": "fits, but has 4096 MiB of memory free, h2 8192",
        "h3": "is closed for new servers",
    }


def test_a_host_that_has_the_image_comes_before_one_that_has_more_room() -> None:
    first, _ = make.host("h1"), make.host("h2", memory_mb=65536)
    make.pool()
    order = make.order()
    ImageCopy.objects.create(image=order.image, host=first, ready=True)
    action = make.ordered(image=order.image).action
    passed_over = action.steps.get(name="placed").passed_over
    assert passed_over == {"h2": "fits, but has not fetched the image yet, as h1 has"}


def test_what_the_host_did_is_kept_with_host_start_duration_and_error(vm: VM) -> None:
    began = time.time()
    disk = StepReport(StepName.DISK, began, 0.25, attempts=3, failure=NO_SPACE)
    worked(vm, disk, converged=False, power=Power.OFF)
    step = ActionStep.objects.get(action__command="create_server", name="disk")
    assert (step.host, step.attempt, step.error_code) == ("h1", 3, "host_io_failed")
    assert step.started.timestamp() == pytest.approx(began)
    assert step.finished is not None
    assert step.finished - step.started == timedelta(seconds=0.25)


def test_both_actions_of_a_creation_show_the_whole_course(vm: VM) -> None:
    now = time.time()
    worked(vm, StepReport(StepName.DISK, now, 0.1), StepReport(StepName.QEMU, now + 0.1, 0.2))
    assert course("create_server") == course("start_server")
    assert [step[0] for step in course()] == ["placed", "queued", "disk", "qemu"]
    assert all(ended for *_, ended in course())


def test_a_report_that_comes_twice_adds_nothing(vm: VM) -> None:
    disk = StepReport(StepName.DISK, time.time(), 0.1)
    worked(vm, disk)
    worked(vm, disk)
    assert [step[0] for step in course()] == ["placed", "queued", "disk"]


def test_a_step_that_goes_on_failing_stays_one(vm: VM) -> None:
    began = time.time()
    for attempts in (1, 2, 3):
        step = StepReport(StepName.DISK, began, attempts, attempts=attempts, failure=NO_SPACE)
        worked(vm, step, converged=False)
    assert course()[-1] == ("disk", 3, "host_io_failed", True)


def test_the_guests_first_sign_of_life_comes_after_the_action_ended(vm: VM) -> None:
    worked(vm)
    assert Action.objects.open().count() == 0
    worked(vm, StepReport(StepName.GUEST, time.time(), 2.5))
    assert course()[-1][0] == "guest"


def test_what_nobody_asked_for_belongs_to_no_action(vm: VM) -> None:
    worked(vm)
    again = StepReport(StepName.QEMU, time.time(), 0.2)
    reports.vm_report(make.report(vm, steps=(again,), cause=None), SENDER)
    assert "qemu" not in [step[0] for step in course()]


def test_a_report_of_an_older_request_adds_nothing_to_a_newer_one(vm: VM) -> None:
    worked(vm)
    with requestid.bound("r-2"):
        power(vm, PowerCommand.POWEROFF)
    late = StepReport(StepName.GUEST, time.time(), 2.5)
    reports.vm_report(make.report(vm, generation=1, steps=(late,), cause=Cause("r-1")), SENDER)
    assert [step[0] for step in course("stop_server")] == ["queued"]


def test_what_was_not_answered_is_sent_again_as_a_further_attempt(vm: VM) -> None:
    moment = timezone.now() + timedelta(seconds=6)
    Host.objects.update(last_heartbeat=moment)
    assert reconcile.dispatch_due_vms(moment) == 1
    assert course() == [
        ("placed", 1, "", True),
        ("queued", 1, "no_answer", True),
        ("queued", 2, "", False),
    ]


def test_what_had_nothing_to_wait_for_has_no_course(vm: VM) -> None:
    worked(vm)
    power(vm, PowerCommand.POWERON)
    assert course("start_server") == []


@pytest.fixture
def sent(rabbitmq: str) -> Iterator[SimpleQueue]:
    """Everything that leaves for hosts from here on."""
    declare_cloud(rabbitmq)
    with Connection(rabbitmq) as connection:
        queue = Queue("", Exchange(HOSTS_EXCHANGE, "topic"), "#", exclusive=True)
        with connection.SimpleQueue(queue, no_ack=True) as messages:
            yield messages


def test_the_sweep_sends_on_for_the_request_that_asked(
    vm: VM, sent: SimpleQueue, django_capture_on_commit_callbacks: Any
) -> None:
    with requestid.bound("r-2"):
        delete_vm(vm)
    moment = timezone.now() + timedelta(seconds=6)
    Host.objects.update(last_heartbeat=moment)
    with requestid.bound("a-sweep"), django_capture_on_commit_callbacks(execute=True):
        assert reconcile.dispatch_due_vms(moment) == 1
    message = sent.get(timeout=10)
    assert message.headers["request_id"] == "r-2"
    (document,) = message.payload[0]
    action = Action.objects.get(command="delete_server")
    assert document["cause"] == {"request_id": "r-2", "action_id": action.pk}


def test_the_sweep_asks_for_its_own_sake_once_all_is_as_wanted(
    vm: VM, sent: SimpleQueue, django_capture_on_commit_callbacks: Any
) -> None:
    worked(vm)
    moment = timezone.now() + timedelta(hours=1)
    Host.objects.update(last_heartbeat=moment)
    with requestid.bound("a-sweep"), django_capture_on_commit_callbacks(execute=True):
        assert reconcile.dispatch_due_vms(moment) == 1
    assert sent.get(timeout=10).headers["request_id"] == "a-sweep"


def test_a_step_that_a_host_names_twice_at_one_moment_counts_once(vm: VM) -> None:
    began = time.time()
    first = StepReport(StepName.DISK, began, 1.0, failure=NO_SPACE)
    worked(vm, first, StepReport(StepName.DISK, began, 2.0, attempts=2))
    assert course()[-1] == ("disk", 2, "", True)
