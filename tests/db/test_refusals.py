"""A host and control of different releases: what was refused is seen, and nothing is forgotten."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from celery.exceptions import Reject
from django.utils import timezone
from msgspec import structs

from cloud.models import Action, Host
from cloud.wire import (
    WIRE_VERSION,
    Failure,
    Introduction,
    Refusal,
    VersionUnsupported,
    convert,
    encode,
)
from tests import factories as make
from vms import compatibility, refusals, reports, tasks
from vms.actions import PowerCommand, power
from vms.models import VM, ImageCopy
from vms.spec import HostReport

pytestmark = pytest.mark.django_db
SENDER = "host-h1"


@pytest.fixture
def vm() -> VM:
    """A server that runs, and is to be switched off."""
    make.host()
    make.pool()
    vm = make.ordered().vm
    reports.vm_report(make.report(vm), SENDER)
    vm.refresh_from_db()
    power(vm, PowerCommand.POWEROFF)
    vm.refresh_from_db()
    return vm


def a_refusal(vm: VM, **changes: Any) -> Refusal:
    why = f"VmSpec is of wire version {WIRE_VERSION}, this side speaks {WIRE_VERSION + 1}"
    said = Refusal(
        host_uuid=str(vm.host.uuid),
        task="vms.ensure",
        number=vm.pk,
        generation=vm.generation,
        failure=Failure(VersionUnsupported.code, why, retryable=True),
        agent_version="0.9.0",
        wire_version=WIRE_VERSION + 1,
    )
    return structs.replace(said, **changes)


def the_action(vm: VM) -> Action:
    return Action.objects.of("server", vm.pk).latest("pk")


def test_the_server_shows_who_has_to_be_upgraded_and_stays_as_it_is(vm: VM) -> None:
    before = (vm.observed_power, vm.observed_generation, vm.generation, vm.goal, vm.status)
    refusals.refused(a_refusal(vm), SENDER)
    vm.refresh_from_db()
    assert vm.failure_code == "wire_version_unsupported"
    assert "upgrade control, or set h1 back" in vm.failure_message
    after = (vm.observed_power, vm.observed_generation, vm.generation, vm.goal, vm.status)
    assert after == before
    assert not vm.failure_final


def test_a_moment_of_two_releases_ends_no_action(vm: VM) -> None:
    refusals.refused(a_refusal(vm), SENDER)
    assert the_action(vm).status == "running"


def test_what_is_refused_again_and_again_ends_with_the_advice(vm: VM) -> None:
    VM.objects.filter(pk=vm.pk).update(attempts=compatibility.PATIENCE)
    refusals.refused(a_refusal(vm), SENDER)
    action = the_action(vm)
    assert (action.status, action.error_code) == ("error", "wire_version_unsupported")
    assert "upgrade control, or set h1 back" in action.error_message


def test_while_the_host_is_not_understood_either_an_action_does_not_wait_for_its_deadline(
    vm: VM,
) -> None:
    Host.objects.update(
        last_heartbeat=timezone.now() - timedelta(minutes=5),
        problems=[{"code": VersionUnsupported.code, "message": "upgrade it"}],
    )
    refusals.refused(a_refusal(vm), SENDER)
    assert the_action(vm).status == "error"


def test_what_was_refused_once_ends_when_the_host_was_not_understood_for_long(vm: VM) -> None:
    refusals.refused(a_refusal(vm), SENDER)
    assert the_action(vm).status == "running"
    Host.objects.update(last_heartbeat=timezone.now() - timedelta(minutes=5))
    introduction = Introduction("h1", str(vm.host.uuid), "0.9.0", WIRE_VERSION + 1)
    refusals.stranger(introduction, VersionUnsupported("another version"), SENDER)
    assert the_action(vm).error_code == "wire_version_unsupported"


def test_a_host_that_was_upgraded_carries_the_wish_out(vm: VM) -> None:
    VM.objects.filter(pk=vm.pk).update(attempts=compatibility.PATIENCE)
    refusals.refused(a_refusal(vm), SENDER)
    vm.refresh_from_db()
    reports.vm_report(make.report(vm, seq=99, power="off"), SENDER)
    vm.refresh_from_db()
    assert (vm.status, vm.failure_code) == ("off", "")


@pytest.mark.parametrize(
    "changes",
    [
        {"generation": 1},
        {"number": 4711},
        {"host_uuid": str(uuid.uuid4())},
        {"task": "vms.explode"},
    ],
)
def test_a_refusal_of_something_else_changes_nothing(vm: VM, changes: dict[str, Any]) -> None:
    refusals.refused(a_refusal(vm, **changes), SENDER)
    vm.refresh_from_db()
    assert vm.failure_code == ""


@pytest.mark.parametrize("forged", ["host-h2", "control", ""])
def test_a_refusal_of_another_sender_changes_nothing(vm: VM, forged: str) -> None:
    refusals.refused(a_refusal(vm), forged)
    vm.refresh_from_db()
    assert vm.failure_code == ""


def test_a_damaged_store_is_told_in_the_host_s_own_words(vm: VM) -> None:
    failure = Failure("host_store_damaged", "spec.json cannot be read: restore it", False)
    refusals.refused(a_refusal(vm, failure=failure), SENDER)
    vm.refresh_from_db()
    assert vm.failure_message == failure.message


def test_a_report_of_another_wire_version_changes_nothing(
    vm: VM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_sender", lambda task: SENDER)
    told = encode(make.report(vm, seq=99, power="off"))
    with pytest.raises(Reject):  # a dead letter, for people to look at
        tasks.report_vm({**told, "version": WIRE_VERSION + 1})
    vm.refresh_from_db()
    assert vm.observed_power == "running"
    tasks.report_vm(told)
    vm.refresh_from_db()
    assert vm.observed_power == "off"


def test_an_image_shows_why_a_host_does_not_fetch_it(vm: VM) -> None:
    copy, _ = ImageCopy.objects.get_or_create(image=vm.image, host=vm.host)
    said = a_refusal(vm, task="images.fetch", number=vm.image_id, generation=0)
    refusals.refused(said, SENDER)
    copy.refresh_from_db()
    assert copy.failure_code == "wire_version_unsupported"


class TestAHeartbeatThatIsNotUnderstood:
    ERROR = VersionUnsupported("HostReport is of another wire version")

    def introduction(self, host: Host, **changes: Any) -> Introduction:
        said = Introduction("h1", str(host.uuid), "0.9.0", WIRE_VERSION + 1)
        return structs.replace(said, **changes)

    def test_is_one_of_the_host_s_problems_and_no_sign_of_life(self) -> None:
        host = make.host()
        heard = host.last_heartbeat
        refusals.stranger(self.introduction(host), self.ERROR, SENDER)
        host.refresh_from_db()
        (problem,) = host.problems
        assert problem["code"] == "wire_version_unsupported"
        assert "upgrade control" in problem["message"]
        assert (host.last_heartbeat, host.agent_version) == (heard, "0.9.0")

    def test_is_forgotten_with_the_next_one_that_is(self) -> None:
        host = make.host()
        refusals.stranger(self.introduction(host), self.ERROR, SENDER)
        reports.host_report(convert(make_report(host), HostReport), SENDER)
        host.refresh_from_db()
        assert host.problems == []

    @pytest.mark.parametrize("forged", ["host-h2", ""])
    def test_of_another_sender_changes_nothing(self, forged: str) -> None:
        host = make.host()
        refusals.stranger(self.introduction(host), self.ERROR, forged)
        host.refresh_from_db()
        assert host.problems == []

    def test_of_another_machine_changes_nothing(self) -> None:
        host = make.host()
        other = self.introduction(host, host_uuid=str(uuid.uuid4()))
        refusals.stranger(other, self.ERROR, SENDER)
        host.refresh_from_db()
        assert host.problems == []

    def test_does_not_claim_a_name(self) -> None:
        host = make.host(uuid=None)
        told = self.introduction(host, host_uuid=str(uuid.uuid4()))
        refusals.stranger(told, self.ERROR, SENDER)
        host.refresh_from_db()
        assert host.uuid is None
        assert host.problems

    def test_comes_in_by_the_same_task_as_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        host = make.host()
        monkeypatch.setattr(tasks, "_sender", lambda task: SENDER)
        tasks.report_host({**make_report(host), "version": WIRE_VERSION + 1, "form": "new"})
        host.refresh_from_db()
        assert host.problems[0]["code"] == "wire_version_unsupported"
        with pytest.raises(Reject):  # a dead letter as well
            tasks.report_host({**make_report(host), "accelerator": "hvf"})
        host.refresh_from_db()
        (problem,) = host.problems
        assert problem["code"] == "malformed_document"
        with pytest.raises(Reject):
            tasks.report_host({"version": WIRE_VERSION + 1})


def make_report(host: Host) -> dict[str, Any]:
    return encode(
        HostReport(
            host=host.name,
            host_uuid=str(host.uuid),
            boot_id="boot-1",
            agent_version="0.1.0",
            network_mode="routed",
            cores=4,
            memory_mb=4096,
            disk_gb=100,
            disk_free_gb=50,
            accelerator="tcg",
            accelerator_reason="",
        )
    )
