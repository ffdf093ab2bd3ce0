"""A guest from its document to its end, on a real QEMU with a real link to the outside."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from msgspec import structs

from tests.host.world import World, second, until
from vms.host import memory, qemu, qmp, store
from vms.spec import Power, PowerGoal

# What control promises its users for a guest that switches itself off.
EVENT_SECONDS = 2.0


@pytest.fixture
def world(any_world: World) -> World:
    return any_world


def test_a_new_guest_boots_and_answers_ssh_from_outside(world: World) -> None:
    spec = world.boot()
    assert world.reported(power=Power.RUNNING, converged=True, generation=spec.generation)
    assert world.ssh(spec, "hostname").stdout.strip() == "web-1"


def test_a_guest_runs_without_any_privilege(world: World) -> None:
    spec = world.spec()
    world.ensure(spec)
    process = world.process(spec)
    assert process
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split() == [str(world.guests_uid)] * 4
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_qemu_owns_its_disks_but_not_the_documents_beside_them(privileged: World) -> None:
    world = privileged
    spec = world.spec(power=PowerGoal.OFF)
    assert world.ensure(spec).converged
    paths = world.host.paths.vm(7)
    assert world.host.owner
    owner = world.host.owner.uid
    assert (paths.disk(0).stat().st_uid, paths.disk(0).stat().st_mode & 0o777) == (owner, 0o600)
    assert (paths.seed.stat().st_uid, paths.seed.stat().st_mode & 0o777) == (owner, 0o400)
    assert (paths.state.stat().st_uid, paths.spec.stat().st_uid) == (0, 0)
    assert paths.spec.stat().st_mode & 0o077 == 0


def test_the_disk_is_an_overlay_of_the_size_that_was_asked_for(world: World) -> None:
    world.ensure(world.spec(power=PowerGoal.OFF))
    info = json.loads(
        world.seen("qemu-img", "info", "--output=json", str(world.host.paths.vm(7).disk(0)))
    )
    assert info["virtual-size"] == 10 * 2**30
    assert info["backing-filename"] == str(world.host.paths.image(world.image.disk.sha256))
    assert info["backing-filename-format"] == "qcow2"


def test_a_vm_that_should_be_off_is_made_and_not_started(world: World) -> None:
    report = world.ensure(world.spec(power=PowerGoal.OFF))
    assert (report.power, report.converged, report.present) == (Power.OFF, True, True)
    assert world.process(world.spec()) is None


def test_the_button_is_pressed_until_the_guest_is_off(world: World) -> None:
    """Also of a guest that is still booting and cannot hear it yet."""
    spec = world.spec()
    with world.watched():
        world.ensure(spec)
        shutdown = structs.replace(spec, generation=4, power=PowerGoal.SHUTDOWN)
        world.ensure(shutdown)
        until(lambda: world.reported(button_pressed=True, converged=False), "it was pressed")
        until(lambda: world.reported(power=Power.OFF, converged=True), "the guest is off")
    assert world.process(spec) is None


def test_a_guest_that_switches_itself_off_is_known_at_once_and_stays_off(world: World) -> None:
    with world.watched():
        spec = world.boot()
        world.ssh(spec, "poweroff")
        took = until(lambda: world.reported(power=Power.OFF), "control knows")
        assert took < EVENT_SECONDS
        assert world.reported(guest_halted=True, converged=True)
        world.ensure(spec)
        assert world.reported(power=Power.OFF, guest_halted=True)
        world.ensure(structs.replace(spec, generation=4))
        until(lambda: world.reported(power=Power.RUNNING, generation=4), "it runs again")


def test_a_guest_stays_off_also_if_it_was_asked_to_run_while_it_ran(world: World) -> None:
    with world.watched():
        spec = world.boot()
        asked_again = structs.replace(spec, generation=4)
        world.ensure(asked_again)
        world.ssh(spec, "poweroff")
        until(lambda: world.reported(guest_halted=True, generation=4), "control knows")
        world.ensure(asked_again)
        assert world.reported(power=Power.OFF, guest_halted=True)


def test_a_killed_qemu_is_started_again(world: World) -> None:
    with world.watched():
        spec = world.spec()
        world.ensure(spec)
        killed = world.process(spec)
        assert killed
        os.kill(killed.pid, signal.SIGKILL)
        until(lambda: world.process(spec) not in (None, killed), "another QEMU")
        until(lambda: store.memory(world.host.paths.vm(7)).crashes == 1, "the crash was counted")


def test_a_qemu_that_ends_again_and_again_is_left_alone_for_a_while(world: World) -> None:
    spec = world.spec()
    for _ in range(memory.CRASHES_IN_A_ROW):
        assert world.ensure(spec).converged
        process = world.process(spec)
        assert process
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: world.process(spec) is None, "QEMU ended")
    report = world.ensure(spec)
    assert report.failure
    assert (report.failure.code, report.failure.retryable) == ("qemu_keeps_crashing", True)
    assert world.ensure(structs.replace(spec, generation=4)).converged


def test_a_reset_boots_the_guest_anew_in_the_same_process(world: World) -> None:
    spec = world.boot()
    before = world.process(spec)
    reset = structs.replace(spec, generation=4, reset_serial=1)
    assert world.ensure(reset).converged
    world.wait_for_boots(spec, 2)
    assert world.process(spec) == before
    world.ensure(reset)
    assert store.memory(world.host.paths.vm(7)).reset_serial == 1


def test_a_reset_lets_a_paused_guest_go_on(world: World) -> None:
    """As one is whose host ran out of disk."""
    spec = world.spec()
    world.ensure(spec)
    socket = world.host.paths.vm(7).qmp
    qmp.ask(socket, "stop")
    assert world.ensure(structs.replace(spec, generation=4, reset_serial=1)).converged
    assert qmp.run_state(socket) == "running"


def test_a_reboot_lets_the_guest_end_by_itself_and_start_again(world: World) -> None:
    with world.watched():
        spec = world.boot()
        before = world.process(spec)
        world.ssh(spec, "echo kept > /data/note; sync")
        world.ensure(structs.replace(spec, generation=4, reboot_serial=1))
        until(lambda: world.reported(generation=4, converged=True), "the reboot is done")
        world.wait_for_boots(spec, 2)
        assert b"poweroff" in world.host.paths.vm(7).console.read_bytes()
        assert world.process(spec) == before
        assert world.reported(power=Power.RUNNING, guest_halted=False)


def test_the_power_is_cut_at_once(world: World) -> None:
    spec = world.spec()
    world.ensure(spec)
    report = world.ensure(structs.replace(spec, generation=4, power=PowerGoal.OFF))
    assert (report.power, report.converged) == (Power.OFF, True)
    assert world.process(spec) is None


def test_a_restarted_agent_finds_its_guests_and_touches_none(world: World) -> None:
    spec = world.spec()
    world.ensure(spec)
    before = world.process(spec)
    assert world.look_again(spec).converged
    assert world.process(spec) == before
    world.host.paths.vm(7).pid.unlink()
    assert world.process(spec) == before


def test_a_qemu_that_does_not_answer_is_unknown_and_harms_no_other_guest(world: World) -> None:
    silent, other = world.spec(), second(world.spec())
    with world.watched():
        world.ensure(silent)
        world.boot(vm_id=other.vm_id, uuid=other.uuid, nics=other.nics)
        process = world.process(silent)
        assert process
        os.kill(process.pid, signal.SIGSTOP)
        world.ensure(silent)
        until(lambda: world.told(silent).power is Power.UNKNOWN, "it is unknown")
        failure = world.told(silent).failure
        assert failure
        assert (failure.code, failure.retryable) == ("qmp_silent", True)
        world.ssh(other, "poweroff")
        took = until(lambda: world.told(other).power is Power.OFF, "control knows")
        assert took < EVENT_SECONDS
        os.kill(process.pid, signal.SIGCONT)
        world.ensure(silent)
        until(lambda: world.told(silent).power is Power.RUNNING, "it is known again")


def test_a_qemu_that_does_not_answer_can_be_switched_off(world: World) -> None:
    spec = world.spec()
    world.ensure(spec)
    process = world.process(spec)
    assert process
    os.kill(process.pid, signal.SIGSTOP)
    report = world.ensure(structs.replace(spec, generation=4, power=PowerGoal.OFF))
    assert (report.power, report.converged) == (Power.OFF, True)


def test_after_a_reboot_of_the_host_its_guests_run_though_the_broker_is_away(world: World) -> None:
    spec = world.spec()
    world.ensure(spec)
    qemu.stop(spec.uuid, world.host.paths.vm(7))
    world.reports.clear()
    world.broker_away = True
    with world.watched():
        until(lambda: world.process(spec), "the guest runs")
        assert not world.reports
        world.broker_away = False
        until(lambda: world.reported(power=Power.RUNNING, converged=True), "control knows")
