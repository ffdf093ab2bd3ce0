"""The periodic sweep under a clock that is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
import time_machine
from celery import Celery

from cloud.beat import WITHOUT_BROKER, Scheduler

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Sending(Scheduler):
    """Counts instead of sending."""

    sent = 0

    def apply_async(self, *_: object, **__: object) -> None:
        self.sent += 1


@pytest.fixture
def scheduler(tmp_path: Path) -> Sending:
    app = Celery("beat", broker="memory://", set_as_current=False)
    app.conf.beat_schedule = {"sweep": {"task": "sweep", "schedule": 3.0}}
    return Sending(app, schedule_filename=str(tmp_path / "schedule"))


def tick(scheduler: Sending, at: datetime) -> int:
    """How many tasks are sent when it is asked at this time until nothing is due."""
    before = scheduler.sent
    tick_once(scheduler, at)
    return scheduler.sent - before


def test_a_sweep_is_sent_every_three_seconds(scheduler: Sending) -> None:
    tick(scheduler, NOON)
    assert tick(scheduler, NOON + timedelta(seconds=1)) == 0
    assert tick(scheduler, NOON + timedelta(seconds=4)) == 1


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(hours=1)])
def test_sweeps_go_on_after_the_clock_was_set(scheduler: Sending, jump: timedelta) -> None:
    tick(scheduler, NOON)
    assert [tick(scheduler, NOON + jump + timedelta(seconds=n)) for n in (1, 5, 9)][1:] == [1, 1]


def test_without_the_broker_beat_does_what_needs_no_host(tmp_path: Path) -> None:
    app = Celery("beat", broker="memory://", set_as_current=False)
    done: list[str] = []

    @app.task(name="test.watch", shared=False)
    def watch() -> None:
        done.append("watched")

    app.conf.beat_schedule = {"sweep": {"task": "control.sweep", "schedule": 3.0}}
    scheduler = Scheduler(app, schedule_filename=str(tmp_path / "schedule"))
    with (
        patch.object(app, "send_task", side_effect=ConnectionRefusedError("refused")),
        patch.dict(WITHOUT_BROKER, {"control.sweep": "test.watch"}),
    ):
        tick_once(scheduler, NOON)
        tick_once(scheduler, NOON + timedelta(seconds=4))
    scheduler.close()
    assert done == ["watched"]


def tick_once(scheduler: Scheduler, at: datetime) -> None:
    with time_machine.travel(at, tick=False):
        while scheduler.tick() == 0:
            pass
