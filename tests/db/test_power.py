"""What users may ask of a server, and what they are told when it is not possible."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from django.utils import timezone

from cloud.errors import InvalidInput, Locked, NotFound, Protected
from cloud.models import Host
from tests import factories as make
from vms import reports
from vms.actions import (
    NotRunning,
    PowerCommand,
    change_protection,
    create_vm,
    delete_vm,
    power,
    update_vm,
)
from vms.models import VM

pytestmark = pytest.mark.django_db


@pytest.fixture
def vm() -> VM:
    """A running server."""
    make.host()
    make.pool()
    vm = make.ordered().vm
    reports.vm_report(make.report(vm), "host-h1")
    vm.refresh_from_db()
    return vm


@pytest.fixture
def stopped(vm: VM) -> VM:
    power(vm, PowerCommand.POWEROFF)
    reports.vm_report(make.report(vm), "host-h1")
    vm.refresh_from_db()
    assert vm.status == "off"
    return vm


def test_a_server_being_created_refuses_power_commands_but_not_deletion() -> None:
    make.host()
    make.pool()
    vm = make.ordered().vm
    with pytest.raises(Locked):
        power(vm, PowerCommand.POWEROFF)
    assert delete_vm(vm).status == "running"


def test_deleting_twice_answers_the_same_action(vm: VM) -> None:
    assert delete_vm(vm).pk == delete_vm(vm).pk


def test_who_asks_for_a_server_that_went_meanwhile_hears_that_it_is_not_found(vm: VM) -> None:
    delete_vm(vm)
    reports.vm_report(make.report(vm), "host-h1")
    for ask in (delete_vm, partial(power, command=PowerCommand.POWERON)):
        with pytest.raises(NotFound, match=f"server with ID '{vm.pk}' not found"):
            ask(vm)


def test_a_server_being_deleted_gives_its_name_free(vm: VM) -> None:
    delete_vm(vm)
    assert make.ordered(vm.name).vm.pk != vm.pk


def test_protection_keeps_a_server(vm: VM) -> None:
    change_protection(vm, delete=True, rebuild=True)
    with pytest.raises(Protected):
        delete_vm(vm)


@pytest.mark.parametrize("command", [PowerCommand.POWEROFF, PowerCommand.SHUTDOWN])
def test_switching_off_what_is_off_succeeds_at_once(stopped: VM, command: PowerCommand) -> None:
    assert power(stopped, command).status == "success"


def test_switching_on_what_is_on_succeeds_at_once(vm: VM) -> None:
    assert power(vm, PowerCommand.POWERON).status == "success"


@pytest.mark.parametrize("command", [PowerCommand.REBOOT, PowerCommand.RESET])
def test_a_server_that_is_off_cannot_be_rebooted(stopped: VM, command: PowerCommand) -> None:
    with pytest.raises(NotRunning, match="switch it on first"):
        power(stopped, command)


def test_a_shutdown_is_stopping_until_the_guest_is_off(vm: VM) -> None:
    action = power(vm, PowerCommand.SHUTDOWN)
    pressed = make.report(vm, power="running", converged=False, button_pressed=True)
    reports.vm_report(pressed, "host-h1")
    vm.refresh_from_db()
    action.refresh_from_db()
    assert (vm.status, action.status) == ("stopping", "success")
    reports.vm_report(make.report(vm, power="off"), "host-h1")
    vm.refresh_from_db()
    assert vm.status == "off"


def test_every_change_raises_the_generation(vm: VM) -> None:
    before = vm.generation
    power(vm, PowerCommand.RESET)
    power(vm, PowerCommand.REBOOT)
    power(vm, PowerCommand.POWEROFF)
    vm.refresh_from_db()
    assert (vm.generation, vm.reset_serial, vm.reboot_serial) == (before + 3, 1, 1)


@pytest.mark.parametrize("name", ["", "-web", "web_1", "web..x", "ä", "a" * 129, "web-.de"])
def test_a_name_that_is_no_hostname_is_refused(vm: VM, name: str) -> None:
    with pytest.raises(InvalidInput):
        update_vm(vm, name=name)


def test_user_data_is_limited_in_bytes_not_characters() -> None:
    make.host()
    make.pool()
    with pytest.raises(InvalidInput):
        create_vm(make.project(), make.order(user_data="ä" * 20_000))


def test_an_image_that_is_not_available_is_refused() -> None:
    make.host()
    with pytest.raises(InvalidInput, match="creating"):
        create_vm(make.project(), make.order(image=make.image(status="creating")))


def test_without_a_key_a_password_is_generated_and_only_its_hash_is_kept() -> None:
    make.host()
    make.pool()
    ordered = make.ordered()
    assert ordered.root_password
    ordered.vm.refresh_from_db()
    assert ordered.vm.root_password_hash.startswith("$2b$")
    assert ordered.root_password not in ordered.vm.root_password_hash


def test_a_wish_makes_nothing_known_of_a_server_whose_host_is_silent(vm: VM) -> None:
    Host.objects.update(last_heartbeat=timezone.now() - timedelta(hours=1))
    VM.objects.update(status="unknown")
    for _ in range(2):
        assert power(vm, PowerCommand.POWERON).status == "running"
        vm.refresh_from_db()
        assert vm.status == "unknown"
