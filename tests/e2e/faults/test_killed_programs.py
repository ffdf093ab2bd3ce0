"""kill -9 of each program of the cloud: its supervisor starts it again, and nothing is lost."""

from __future__ import annotations

import psutil
import pytest

from deploy import control
from tests.e2e.faults.trial import Trial
from tests.e2e.world import until


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        ("agent-h1", "agent killed"),
        ("monitor-h1", "monitor killed"),
        (control.WORKER, "control worker killed"),
        (control.BEAT, "beat killed"),
        (control.WEB, "web killed"),
    ],
)
def test_a_killed_program_is_started_again_and_nothing_is_lost(
    trial: Trial, program: str, fault: str
) -> None:
    supervisor, guests = trial.world.cloud.supervisor, trial.qemus()
    before = supervisor.pid(program)
    with trial.under_load(fault):
        supervisor.signal(program, "KILL")
        until(lambda: not psutil.pid_exists(before), f"{program} is dead", seconds=30)
        until(lambda: supervisor.pid(program) not in (0, before), "it is started again", seconds=60)
    assert trial.qemus() == guests, "no guest took notice"
