"""QEMU dies or falls silent: its own server is concerned, no other one."""

from __future__ import annotations

import signal
import time
from statistics import median

import psutil

from tests.e2e.faults import inventory
from tests.e2e.faults.load import Load
from tests.e2e.faults.trial import Trial
from tests.e2e.world import until
from vms.host import qmp
from vms.host.paths import HostPaths

# Creations before the fault, which those during it are compared with.
_SAMPLE = 4
# As long as a host may be silent before its servers are unknown.
_STOPPED_SECONDS = 30.0


def test_a_killed_qemu_is_started_again_and_no_other(trial: Trial) -> None:
    before = trial.qemus()
    with trial.under_load("QEMU killed"):
        trial.qemu("h1").kill()
        until(lambda: not psutil.pid_exists(before["h1"]), "it is dead", seconds=30)
        until(lambda: trial.find_qemu("h1"), "another one runs", seconds=60)
    after = trial.qemus()
    assert after["h1"] != before["h1"]
    assert {**after, "h1": 0} == {**before, "h1": 0}


def test_a_silent_qemu_makes_its_own_server_unknown_and_slows_nobody(trial: Trial) -> None:
    world, guests = trial.world, trial.qemus()
    resident, host = trial.residents["h1"], trial.host("h1")
    with trial.under_load("QEMU silent") as load:
        usual = _usual_seconds(load)
        trial.qemu("h1").send_signal(signal.SIGSTOP)
        try:
            since = time.monotonic()
            socket = HostPaths(host.state, host.run).vm(resident.id).qmp
            try:
                qmp.run_state(socket)
                silent = False
            except qmp.QmpSilent:
                silent = True
            assert silent
            world.wait_for_status(resident, "unknown", seconds=90)
            took = _some_creations_on(trial, load, since, "h1")
        finally:
            trial.qemu("h1").send_signal(signal.SIGCONT)
        assert median(took) < _as_usual(usual), (took, usual)
        world.wait_for_status(resident, "running", seconds=90)
    assert trial.qemus() == guests, "it is the same guest as before"


def test_a_server_whose_qemu_is_silent_can_be_deleted(trial: Trial) -> None:
    world = trial.world
    with trial.under_load("QEMU silent, deleted"):
        server = world.create("mute")
        host = world.host_of(server)
        uuids = {s.id: s.uuid for s in inventory.read(world.cloud.instance).servers}
        (process,) = world.guests_with(uuids[server.id])
        process.send_signal(signal.SIGSTOP)
        world.api.servers.delete(server)
        world.wait_for_status(server, "gone", seconds=30)
        assert not psutil.pid_exists(process.pid)
        assert not (host.state / "vms" / str(server.id)).exists()


def test_a_stopped_agent_delays_its_own_host_and_no_other(trial: Trial) -> None:
    """Its monitor speaks on, so its servers stay known; what is new there waits."""
    world, guests = trial.world, trial.qemus()
    supervisor, host = world.cloud.supervisor, trial.host("h1")
    before = supervisor.pid(host.agent)
    with trial.under_load("agent stopped") as load:
        usual = _usual_seconds(load)
        supervisor.signal(host.agent, "STOP")
        try:
            process = psutil.Process(before)
            until(lambda: process.status() == psutil.STATUS_STOPPED, "it stands still", seconds=30)
            since = time.monotonic()
            time.sleep(_STOPPED_SECONDS)
            assert world.status(trial.residents["h1"]) == "running"
            took = _some_creations_on(trial, load, since, "h2", "h3")
            assert not _creations_on(trial, load, since, "h1"), "nobody answers for h1"
        finally:
            supervisor.signal(host.agent, "CONT")
        assert median(took) < _as_usual(usual), (took, usual)
    assert supervisor.pid(host.agent) == before
    assert trial.qemus() == guests


def _usual_seconds(load: Load) -> list[float]:
    """How long creations take while nothing is wrong."""
    until(lambda: load.whole_since(0) >= _SAMPLE, "load goes", seconds=120)
    return list(load.creations(0).values())


def _as_usual(before: list[float]) -> float:
    """What a median of creations must stay below: whoever waits for a silent QEMU waits longer."""
    return 2 * median(before) + 1.0


def _some_creations_on(trial: Trial, load: Load, since: float, *hosts: str) -> list[float]:
    """The same of a few at least."""
    until(
        lambda: len(_creations_on(trial, load, since, *hosts)) >= 2,
        f"servers are made on {hosts}",
        seconds=120,
    )
    return _creations_on(trial, load, since, *hosts)


def _creations_on(trial: Trial, load: Load, since: float, *hosts: str) -> list[float]:
    """How long creations took there that were asked for after the moment."""
    took, places = load.creations(since), inventory.places(trial.world.cloud.instance)
    return [seconds for action, seconds in took.items() if places.get(action) in hosts]
