"""A host's disk is full, its link is cut, its clock jumps: it is the only one that suffers."""

from __future__ import annotations

import time

import pytest

from cloud import shell
from deploy import control, lab
from tests.e2e.faults import clock, inventory
from tests.e2e.faults.conftest import SMALL
from tests.e2e.faults.disk import full, is_full
from tests.e2e.faults.trial import Trial
from tests.e2e.world import until

_HOUR = 3600
_CUT_SECONDS = 60.0


def test_on_a_full_disk_servers_run_on_and_new_ones_go_elsewhere(trial: Trial) -> None:
    """What cannot be stored fails by name, and is done once there is room."""
    guests, host = trial.qemus(), trial.host(SMALL)
    resident = trial.residents[SMALL]
    document = host.state / "vms" / str(resident.id) / "spec.json"
    with trial.under_load("disk of a host full") as load:
        with full(host.state):
            assert is_full(host.state)
            before = document.read_bytes()
            reset = trial.world.api.servers.reset(resident)
            until(lambda: _failure(trial) == "host_disk_full", "its host says why", seconds=60)
            assert document.read_bytes() == before, "half a document replaces no whole one"
            until(lambda: _has_no_room(trial), "control knows", seconds=60)
            known = time.monotonic()
            until(lambda: load.whole_since(known) >= 3, "others go on", seconds=60)
            assert not _on(trial, load.creations(known), SMALL), "new servers go elsewhere"
            assert trial.world.status(resident) == "running"
        until(lambda: not _has_no_room(trial), "control knows of the room", seconds=60)
        reset.wait_until_finished(max_retries=240)
    assert document.read_bytes() != before
    assert trial.qemus() == guests


def test_a_link_cut_for_a_minute_leaves_guests_running_and_others_untouched(trial: Trial) -> None:
    world, guests = trial.world, trial.qemus()
    outside = [*world.cloud.lab.enter(world.cloud.lab.outside), "ip", "link", "set", "h1"]
    # A delete may take 90 s.
    with trial.under_load("link of a host cut for a minute", failures=["timeout"]):
        shell.run([*outside, "down"], timeout=10)
        try:
            assert not _reaches_control(trial)
            time.sleep(_CUT_SECONDS)
            world.wait_for_status(trial.residents["h1"], "unknown")
            assert world.status(trial.residents["h2"]) == "running"
        finally:
            shell.run([*outside, "up"], timeout=10)
        until(lambda: _reaches_control(trial), "the link carries again", seconds=10)
    assert trial.qemus() == guests
    world.wait_for_ssh(trial.residents["h1"])


@pytest.mark.parametrize("seconds", [_HOUR, -_HOUR], ids=["forward", "back"])
def test_a_host_whose_clock_jumps_by_an_hour_does_its_work(trial: Trial, seconds: int) -> None:
    cloud, guests = trial.world.cloud, trial.qemus()
    programs = trial.host("h1").programs(cloud.release)
    with clock.settable(cloud, programs) as set_clock:
        way = "forward" if seconds > 0 else "back"
        with trial.under_load(f"clock of a host an hour {way}") as load:
            set_clock(seconds)
            since = time.monotonic()
            until(lambda: _on(trial, load.creations(since), "h1"), "it has work done", seconds=120)
        with trial.under_load(f"clock of a host put right, an hour {way} before"):
            set_clock(0)
    assert trial.qemus() == guests


@pytest.mark.parametrize("seconds", [_HOUR, -_HOUR], ids=["forward", "back"])
def test_a_control_plane_whose_clock_jumps_by_an_hour_does_its_work(
    trial: Trial, seconds: int
) -> None:
    cloud, guests = trial.world.cloud, trial.qemus()
    every = control.programs(cloud.instance, cloud.release)
    programs = [program for program in every if program.name != control.FLOWER]
    with clock.settable(cloud, programs) as set_clock:
        way = "forward" if seconds > 0 else "back"
        # What was open then is past its deadline by the clock; no host was heard of for an hour.
        with trial.under_load(
            f"clock of control an hour {way}", failures=["timeout", "resource_unavailable"]
        ):
            set_clock(seconds)
        with trial.under_load(
            f"clock of control put right, an hour {way} before",
            failures=["timeout", "resource_unavailable"],
        ):
            set_clock(0)
    assert trial.qemus() == guests


def _failure(trial: Trial) -> str:
    """What is wrong with the resident, by its host's words."""
    servers = inventory.read(trial.world.cloud.instance).servers
    (resident,) = [s for s in servers if s.id == trial.residents[SMALL].id]
    return resident.failure


def _has_no_room(trial: Trial) -> bool:
    """Whether the host said that its disk is full."""
    return inventory.free_disk(trial.world.cloud.instance)[SMALL] == 0


def _reaches_control(trial: Trial) -> bool:
    enter = trial.world.cloud.lab.enter(trial.host("h1").namespace.name)
    argv = [*enter, "nc", "-z", "-w", "2", lab.CONTROL, "5672"]
    return shell.run(argv, timeout=10, ok=(0, 1)).code == 0


def _on(trial: Trial, creations: dict[int, float], host: str) -> list[int]:
    places = inventory.places(trial.world.cloud.instance)
    return [action for action in creations if places.get(action) == host]
