"""Reports may be late, doubled, out of order or forged; the rows are right all the same."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from cloud.hosts import revoke_host
from cloud.models import Action, Host
from cloud.wire import Failure, Refusal
from networks.models import Address, Withdrawal
from tests import factories as make
from vms import reconcile, refusals, reports, unchanged, usage
from vms.actions import PowerCommand, delete_vm, power
from vms.intent import set_status
from vms.models import VM, Image, ImageCopy, UsageSample
from vms.spec import (
    HostReport,
    ImageReport,
    Power,
    SeenVm,
    UnchangedReport,
    Usage,
    UsageReport,
)

pytestmark = pytest.mark.django_db
SENDER = "host-h1"


@pytest.fixture
def vm() -> VM:
    """A server that was asked for and of which its host said nothing yet."""
    make.host()
    make.pool()
    return make.ordered().vm


def statuses(vm: VM) -> dict[str, str]:
    return dict(Action.objects.of("server", vm.pk).values_list("command", "status"))


def test_a_complete_server_is_running_and_ends_both_actions_of_its_creation(vm: VM) -> None:
    reports.vm_report(make.report(vm), SENDER)
    vm.refresh_from_db()
    assert vm.status == "running"
    assert statuses(vm) == {"create_server": "success", "start_server": "success"}


def test_an_older_report_changes_nothing(vm: VM) -> None:
    reports.vm_report(make.report(vm, seq=5), SENDER)
    reports.vm_report(make.report(vm, seq=4, power=Power.OFF), SENDER)
    reports.vm_report(make.report(vm, seq=5, power=Power.OFF), SENDER)
    vm.refresh_from_db()
    assert vm.observed_power == Power.RUNNING


@pytest.mark.parametrize("forged", ["host-h2", "control", ""])
def test_a_report_of_another_sender_is_dropped(vm: VM, forged: str) -> None:
    reports.vm_report(make.report(vm), forged)
    vm.refresh_from_db()
    assert vm.observed_generation == 0


def test_what_a_host_says_counts_no_more_once_it_is_cut_off(vm: VM) -> None:
    host = Host.objects.get()
    reports.vm_report(make.report(vm), SENDER)
    copy, _ = ImageCopy.objects.update_or_create(
        image=vm.image, host=host, defaults={"ready": False}
    )
    delete_vm(vm)
    revoke_host(host)
    vm.refresh_from_db()
    seen, machine = vm.observed_at, str(host.uuid)
    reports.vm_report(make.report(vm, present=False, power=Power.OFF), SENDER)
    same = SeenVm(vm_id=vm.pk, uuid=str(vm.uuid), seq=vm.observed_seq)
    unchanged.unchanged_report(UnchangedReport(machine, vms=(same,)), SENDER)
    done = ImageReport(machine, vm.image_id, vm.image.sha256, ready=True, progress=100)
    reports.image_report(done, SENDER)
    measured = Usage(vm_id=vm.pk, seconds=60.0, cpu=1.0, memory_bytes=1)
    usage.usage_report(UsageReport(machine, timezone.now().timestamp(), (measured,)), SENDER)
    why = Failure("malformed_document", "no", retryable=True)
    refusals.refused(Refusal(machine, "vms.remove", vm.pk, vm.generation, why, "1", 1), SENDER)
    vm.refresh_from_db()
    copy.refresh_from_db()
    assert (vm.observed_at, vm.failure_code, copy.ready) == (seen, "", False)
    assert not UsageSample.objects.exists()
    assert not Address.objects.filter(state=Address.State.RELEASED).exists()
    assert statuses(vm)["delete_server"] == "running"


def test_a_report_of_another_machine_under_the_same_name_is_dropped(vm: VM) -> None:
    reports.vm_report(make.report(vm, host_uuid=str(uuid.uuid4())), SENDER)
    vm.refresh_from_db()
    assert vm.observed_generation == 0


def test_a_report_from_the_future_of_this_database_is_dropped(vm: VM) -> None:
    reports.vm_report(make.report(vm, generation=9), SENDER)
    vm.refresh_from_db()
    assert vm.observed_generation == 0


def test_a_guest_that_switched_itself_off_stays_off(vm: VM) -> None:
    reports.vm_report(make.report(vm), SENDER)
    reports.vm_report(make.report(vm, power=Power.OFF, guest_halted=True), SENDER)
    vm.refresh_from_db()
    assert (vm.goal, vm.status) == ("off", "off")


def test_a_crashed_guest_is_starting_again(vm: VM) -> None:
    reports.vm_report(make.report(vm), SENDER)
    reports.vm_report(make.report(vm, power=Power.OFF, converged=False), SENDER)
    vm.refresh_from_db()
    assert (vm.goal, vm.status) == ("running", "starting")


def test_a_server_that_cannot_be_made_is_taken_back_with_its_reason(vm: VM) -> None:
    failure = Failure("image_corrupt", "checksum differs", retryable=False)
    broken = make.report(vm, converged=False, power=Power.OFF, failure=failure)
    reports.vm_report(broken, SENDER)
    vm.refresh_from_db()
    assert vm.status == "deleting"
    assert Withdrawal.objects.count() == Address.objects.filter(state="quarantine").count() == 1
    action = Action.objects.get(command="create_server")
    assert (action.status, action.error_code) == ("error", "image_corrupt")


def test_a_passing_failure_leaves_the_action_open(vm: VM) -> None:
    failure = Failure("disk_full", "no space left", retryable=True)
    reports.vm_report(make.report(vm, converged=False, failure=failure), SENDER)
    vm.refresh_from_db()
    assert vm.failure_message == "no space left"
    assert statuses(vm)["create_server"] == "running"


def test_a_deleted_server_keeps_its_address_until_the_host_proves_the_end(vm: VM) -> None:
    reports.vm_report(make.report(vm), SENDER)
    delete_vm(vm)
    reports.vm_report(make.report(vm, present=True, generation=1), SENDER)
    assert Address.objects.held().count() == 1
    reports.vm_report(make.report(vm, present=False), SENDER)
    assert not VM.objects.exists()
    assert Address.objects.get().released_at is not None
    assert Action.objects.get(command="delete_server").status == "success"


def test_the_end_counts_whatever_the_clock_of_the_host_says(vm: VM) -> None:
    reports.vm_report(make.report(vm, seq=9_000), SENDER)
    delete_vm(vm)
    reports.vm_report(make.report(vm, present=False, seq=5), SENDER)
    assert not VM.objects.exists()


def test_absence_under_an_older_generation_deletes_nothing(vm: VM) -> None:
    delete_vm(vm)
    reports.vm_report(make.report(vm, present=False, generation=1), SENDER)
    assert VM.objects.filter(pk=vm.pk).exists()


def test_a_vm_missing_on_its_host_is_not_forgotten(vm: VM) -> None:
    reports.vm_report(make.report(vm), SENDER)
    reports.vm_report(make.report(vm, present=False, power=Power.OFF), SENDER)
    vm.refresh_from_db()
    assert not vm.converged
    assert vm.status == "starting"


def test_a_report_of_the_state_before_a_power_command_does_not_end_it(vm: VM) -> None:
    reports.vm_report(make.report(vm), SENDER)
    before = make.report(vm)
    action = power(vm, PowerCommand.POWEROFF)
    reports.vm_report(before, SENDER)
    action.refresh_from_db()
    assert action.status == "running"
    reports.vm_report(make.report(vm), SENDER)
    action.refresh_from_db()
    assert action.status == "success"


def heartbeat(host: Host, **values: object) -> HostReport:
    facts = {
        "host": host.name,
        "host_uuid": str(host.uuid),
        "boot_id": "boot-2",
        "agent_version": "0.1.0",
        "network_mode": "routed",
        "cores": 8,
        "memory_mb": 4096,
        "disk_gb": 50,
        "disk_free_gb": 40,
        "accelerator": "tcg",
        "accelerator_reason": "no /dev/kvm",
    }
    return HostReport(**{**facts, **values})


def test_a_heartbeat_brings_the_hosts_facts(vm: VM) -> None:
    reports.host_report(heartbeat(vm.host, leftovers=("interface tap-x",)), SENDER)
    host = Host.objects.get()
    assert (host.cores, host.memory_mb, host.boot_id) == (8, 4096, "boot-2")
    assert host.leftovers == ["interface tap-x"]


def test_the_first_machine_claims_the_name_and_a_second_is_refused() -> None:
    host = make.host(uuid=None)
    first, second = uuid.uuid4(), uuid.uuid4()
    reports.host_report(heartbeat(host, host_uuid=str(first)), SENDER)
    reports.host_report(heartbeat(host, host_uuid=str(second), cores=99), SENDER)
    host.refresh_from_db()
    assert (host.uuid, host.refused_uuid, host.cores) == (first, second, 8)


def test_a_host_cannot_speak_for_another(vm: VM) -> None:
    reports.host_report(heartbeat(vm.host, cores=99), "host-h2")
    assert Host.objects.get().cores == 4


def test_a_host_that_speaks_again_ends_the_unknown(vm: VM) -> None:
    reports.vm_report(make.report(vm), SENDER)
    VM.objects.update(status="unknown")
    Host.objects.update(last_heartbeat=timezone.now() - timedelta(hours=1))
    reports.host_report(heartbeat(vm.host), SENDER)
    vm.refresh_from_db()
    assert vm.status == "running"


def test_a_host_that_was_read_before_its_heartbeat_is_not_taken_for_silent(vm: VM) -> None:
    """As by a report that waited for the row which the heartbeat had locked."""
    reports.vm_report(make.report(vm), SENDER)
    Host.objects.update(last_heartbeat=timezone.now() - timedelta(hours=1))
    read_before = VM.objects.select_related("host").get()
    reports.host_report(heartbeat(vm.host), SENDER)
    set_status(read_before)
    assert read_before.status == "running"


def image_report(copy: ImageCopy, **values: object) -> ImageReport:
    facts = {
        "host_uuid": str(copy.host.uuid),
        "image_id": copy.image_id,
        "sha256": copy.image.sha256,
        "ready": True,
        "progress": 100,
    }
    return ImageReport(**{**facts, **values})


def image_failed(copy: ImageCopy) -> str:
    failure = Failure("image_source_missing", "no such file", retryable=False)
    report = image_report(copy, ready=False, failure=failure)
    reports.image_report(report, f"host-{copy.host.name}")
    return str(Image.objects.get(pk=copy.image_id).status)


def test_the_first_copy_makes_an_image_available_and_a_bad_one_unavailable() -> None:
    host = make.host()
    good = ImageCopy.objects.create(image=make.image(status="creating"), host=host)
    bad = ImageCopy.objects.create(image=make.image("bad", status="creating"), host=host)
    reports.image_report(image_report(good), SENDER)
    assert image_failed(bad) == "unavailable"
    assert Image.objects.get(pk=good.image_id).status == "available"
    assert Image.objects.get(pk=bad.image_id).problem == "no such file"


def test_an_image_is_not_given_up_while_a_host_that_speaks_may_get_it() -> None:
    image = make.image(status="creating")
    hosts = [make.host(f"h{number}") for number in (1, 2)]
    make.host("silent", last_heartbeat=None)
    one, two = (ImageCopy.objects.create(image=image, host=host) for host in hosts)
    assert image_failed(one) == "creating"
    assert image_failed(two) == "unavailable"


def test_a_host_that_joins_later_can_make_an_image_available() -> None:
    image = make.image(status="creating")
    assert image_failed(ImageCopy.objects.create(image=image, host=make.host())) == "unavailable"
    later = make.host("h2", last_heartbeat=None)
    reports.host_report(heartbeat(later), "host-h2")
    assert reconcile.dispatch_due_images(timezone.now() + timedelta(seconds=1)) == 1
    reports.image_report(image_report(ImageCopy.objects.get(host=later)), "host-h2")
    image.refresh_from_db()
    assert (image.status, image.problem) == ("available", "")


def test_a_host_that_has_no_address_for_a_moment_keeps_its_own() -> None:
    host = make.host(uplink_ip="192.0.2.11")
    reports.host_report(heartbeat(host, uplink_ip=None), SENDER)
    host.refresh_from_db()
    assert host.uplink_ip == "192.0.2.11"


def test_why_a_copy_failed_stays_to_be_seen_while_it_is_tried_again() -> None:
    copy = ImageCopy.objects.create(image=make.image(status="creating"), host=make.host())
    failure = Failure("command_failed", "qemu-img: no more threads", retryable=True)
    reports.image_report(image_report(copy, ready=False, failure=failure), SENDER)
    reports.image_report(image_report(copy, ready=False, progress=10), SENDER)
    copy.refresh_from_db()
    assert (copy.failure_code, copy.progress) == ("command_failed", 10)
    reports.image_report(image_report(copy), SENDER)
    copy.refresh_from_db()
    assert (copy.ready, copy.failure_code) == (True, "")
