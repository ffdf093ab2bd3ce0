"""Real workers of every pool that Celery offers us: no task sees the request of another one."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from cloud import requestid, shell
from deploy.state import CHECKOUT
from tests.e2e.world import until

pytestmark = pytest.mark.trace


@pytest.fixture
def told(tmp_path: Path) -> Path:
    return tmp_path / "told"


@pytest.fixture(params=["threads", "prefork", "solo"])
def worker(
    request: pytest.FixtureRequest, rabbitmq: str, told: Path, tmp_path: Path
) -> Iterator[None]:
    """One worker with one thread or process, so that tasks follow each other in it."""
    pool = ["--pool", request.param, "--concurrency", "1"]
    argv = [sys.executable, "-m", "celery", "-A", "tests.echo", "worker", *pool]
    environment = {"ECHO_BROKER": rabbitmq, "ECHO_FILE": str(told), "PYTHONPATH": str(CHECKOUT)}
    quiet = ["--without-mingle", "--without-gossip", "--without-heartbeat"]
    process = shell.spawn([*argv, *quiet], log=tmp_path / "worker.log", env=environment)
    yield
    process.terminate()
    process.wait(30)


def test_tasks_that_follow_each_other_share_nothing(
    worker: None, rabbitmq: str, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "ECHO_BROKER", rabbitmq)
    from tests.echo import app

    told.touch()
    for label, request_id in [
        ("plain", "r-1"),
        ("fail", "r-2"),
        ("periodic", None),
        ("loop", "r-3"),
        ("last", "r-4"),
    ]:
        _send(app, label, request_id)
    until(lambda: len(told.read_text().splitlines()) == 5, "all tasks ran", seconds=60)
    seen = dict(line.split(" ", 1) for line in told.read_text().splitlines())
    periodic = seen.pop("periodic")
    assert seen == {"plain": "r-1", "fail": "r-2", "loop": "r-3", "last": "r-4"}
    assert uuid.UUID(periodic).version == 4


def _send(app: Celery, label: str, request_id: str | None) -> None:
    if request_id is None:
        app.send_task("echo", args=[label])
        return
    with requestid.bound(request_id):
        app.send_task("echo", args=[label])
