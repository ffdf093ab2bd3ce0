"""What a host remembers of a VM: which end of QEMU was a crash, and when to pause."""

from __future__ import annotations

import pytest

from tests.documents import SPEC, a_spec
from vms.host.memory import (
    CRASH_PAUSE_SECONDS,
    CRASHES_IN_A_ROW,
    GUEST_PATIENCE_SECONDS,
    QUICK_CRASH_SECONDS,
    VmMemory,
    is_patient,
)

BOOT = "boot-1"
NOW = 1_000_000.0


def crash(memory: VmMemory, started: float, ended: float) -> VmMemory:
    return memory.starting(SPEC, BOOT, started).absent(SPEC, BOOT, ended)


def test_quick_crashes_in_a_row_make_the_next_start_wait() -> None:
    memory, now = VmMemory(), NOW
    for _ in range(CRASHES_IN_A_ROW):
        assert not memory.pausing(now)
        memory = crash(memory, now, now + 1)
        now += 1
    assert memory.pausing(now)
    assert not memory.pausing(now + CRASH_PAUSE_SECONDS)


def test_a_guest_that_served_for_a_while_begins_a_new_count() -> None:
    memory = crash(VmMemory(settled=3, crashes=4), NOW, NOW + QUICK_CRASH_SECONDS)
    assert memory.crashes == 1


@pytest.mark.parametrize(
    ("settled", "boot"),
    [pytest.param(2, BOOT, id="new generation"), pytest.param(3, "boot-0", id="host rebooted")],
)
def test_a_new_generation_and_a_reboot_of_the_host_forgive_crashes(settled: int, boot: str) -> None:
    memory = VmMemory(settled=settled, started_at=NOW, started_boot=boot, crashes=9, crashed_at=NOW)
    assert memory.absent(SPEC, BOOT, NOW + 1).crashes == 0


def test_an_end_on_purpose_is_no_crash() -> None:
    memory = VmMemory(settled=3, started_at=0.0, started_boot=BOOT, crashes=2)
    assert memory.absent(SPEC, BOOT, NOW).crashes == 2


def test_the_same_crash_is_counted_once() -> None:
    memory = crash(VmMemory(settled=3), NOW, NOW + 1)
    assert memory.absent(SPEC, BOOT, NOW + 2).crashes == memory.crashes == 1


def test_a_fresh_start_fulfils_every_reset_and_reboot() -> None:
    spec = a_spec(reset_serial=4, reboot_serial=2)
    memory = VmMemory().starting(spec, BOOT, NOW)
    assert (memory.reset_serial, memory.reboot_serial, memory.settled) == (4, 2, 3)


def test_the_button_is_counted_from_when_it_was_first_pressed() -> None:
    memory = VmMemory().button_pressed(SPEC, NOW).button_pressed(SPEC, NOW + 3)
    assert (memory.pressed_since, memory.pressed_at) == (NOW, NOW + 3)


def test_a_clock_that_was_set_back_does_not_put_off_the_end_of_a_reboot_by_an_hour() -> None:
    memory = VmMemory().button_pressed(SPEC, NOW).button_pressed(SPEC, NOW - 3600)
    assert memory.pressed_since == NOW - 3600


@pytest.mark.parametrize(
    ("passed", "patient"),
    [(0, True), (GUEST_PATIENCE_SECONDS - 1, True), (GUEST_PATIENCE_SECONDS, False), (-1, False)],
)
def test_a_guest_is_not_listened_for_longer_because_a_clock_was_set_back(
    passed: float, patient: bool
) -> None:
    assert is_patient(NOW, NOW + passed) is patient
