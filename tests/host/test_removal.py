"""A VM goes from every state, and leaves nothing but the memory that it is gone."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from msgspec import structs

from tests.documents import a_removal
from tests.host.world import World, until
from vms.host import inbox, store
from vms.spec import Power, PowerGoal, VmSpec

OTHER_UUID = "22222222-2222-3333-4444-555555555555"


def assert_nothing_is_left(world: World, spec: VmSpec) -> None:
    paths = world.host.paths.vm(spec.vm_id)
    address = spec.nics[0].ipv4
    assert world.process(spec) is None
    assert not paths.state.exists()
    assert not paths.run.exists()
    assert not list(world.host.paths.locks.glob(f"{spec.vm_id}.*"))
    assert not list(world.host.paths.unsent.iterdir())
    assert "cu7-0" not in world.seen("ip", "-o", "link")
    assert address not in world.seen("ip", "route")
    assert address not in world.seen("ip", "neigh", "show", "proxy")
    assert "cu7-0" not in world.seen("nft", "list", "ruleset")


def test_a_running_guest_is_removed_without_a_trace(world: World) -> None:
    spec = world.spec()
    world.ensure(spec)
    report = world.remove(spec)
    assert (report.present, report.power, report.failure) == (False, Power.OFF, None)
    assert_nothing_is_left(world, spec)
    assert world.host.paths.tombstone(spec.uuid).exists()


@pytest.mark.parametrize("state", ["off", "halted", "silent", "crashed", "half made", "unknown"])
def test_a_vm_is_removed_from_any_state(world: World, state: str) -> None:
    spec = world.spec()
    match state:
        case "off":
            world.ensure(structs.replace(spec, power=PowerGoal.OFF))
        case "halted":
            world.boot()
            world.ssh(spec, "poweroff")
        case "silent" | "crashed":
            world.ensure(spec)
            process = world.process(spec)
            assert process
            os.kill(process.pid, signal.SIGSTOP if state == "silent" else signal.SIGKILL)
        case "half made":
            store.accept(world.host, spec)
    assert not world.remove(spec).present
    assert_nothing_is_left(world, spec)


def test_a_removal_that_comes_twice_is_answered_twice(world: World) -> None:
    spec = world.spec()
    world.ensure(spec)
    first, second = world.remove(spec), world.remove(spec)
    assert not second.present
    assert second.seq > first.seq
    assert_nothing_is_left(world, spec)


def test_a_late_document_brings_nothing_back(world: World) -> None:
    spec = world.spec()
    world.ensure(spec)
    world.remove(spec)
    world.reports.clear()
    inbox.ensure(world.host, structs.replace(spec, generation=99), world.send)
    assert not world.reports
    assert_nothing_is_left(world, spec)


def test_control_hears_of_a_removal_even_if_the_broker_was_away(world: World) -> None:
    spec = world.spec()
    world.ensure(spec)
    world.broker_away = True
    world.remove(spec)
    assert world.process(spec) is None
    with world.watched():
        world.broker_away = False
        until(lambda: world.reported(present=False, uuid=spec.uuid), "control knows")
        until(lambda: not world.host.paths.vm(7).state.exists(), "the documents are gone")


def test_a_guest_is_removed_though_its_document_cannot_be_read(world: World) -> None:
    spec = world.spec()
    world.ensure(spec)
    world.host.paths.vm(7).spec.write_text("{")
    assert not world.remove(spec).present
    assert_nothing_is_left(world, spec)


def test_the_removal_of_another_vm_under_the_same_id_spares_this_one(world: World) -> None:
    spec = world.spec()
    world.ensure(spec)
    foreign = a_removal(spec, uuid=OTHER_UUID)
    inbox.remove(world.host, foreign, world.send)
    assert (world.reports[-1].uuid, world.reports[-1].present) == (OTHER_UUID, False)
    assert world.process(spec)


def test_another_vm_under_the_same_id_is_refused_and_control_told_why(world: World) -> None:
    spec = world.spec()
    world.ensure(spec)
    inbox.ensure(world.host, structs.replace(spec, uuid=OTHER_UUID), world.send)
    report = world.reports[-1]
    assert report.failure
    assert (report.uuid, report.failure.code) == (OTHER_UUID, "server_id_taken")
    assert not report.failure.retryable
    assert world.process(spec)


def test_an_old_document_changes_nothing(world: World) -> None:
    spec = world.spec(generation=5)
    world.ensure(spec)
    world.reports.clear()
    inbox.ensure(world.host, structs.replace(spec, generation=4, power=PowerGoal.OFF), world.send)
    assert not world.reports
    assert world.process(spec)


def test_every_report_of_a_vm_is_newer_than_the_last_even_if_the_memory_of_it_is_lost(
    world: World,
) -> None:
    spec = world.spec(power=PowerGoal.OFF)
    first = world.ensure(spec)
    memory: Path = world.host.paths.vm(7).memory
    assert json.loads(memory.read_text())["seq"] == first.seq
    memory.unlink()
    assert world.ensure(spec).seq > first.seq
