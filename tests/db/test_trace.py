"""`manage.py trace`: the story of a request from rows, logs, and a host that is asked."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker
from django.core.management import CommandError, call_command
from django.utils import timezone

from cloud import agent, requestid
from cloud.broker import declare_cloud, declare_host
from cloud.hostconfig import HostConfig
from cloud.logsearch import Gap
from cloud.models import Action
from cloud.story.moments import Moment
from cloud.story.sources import host_logs
from tests import factories as make

pytestmark = pytest.mark.django_db
ID = "Root=1-2;a/b+c"


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CUMULET_LOG_PATHS", str(tmp_path))
    return tmp_path


def logged(event: str, seconds: float, **fields: Any) -> str:
    at = timezone.now() + timedelta(seconds=seconds)
    facts = {"time": at.isoformat(), "level": "info", "event": event, "request_id": ID, **fields}
    return json.dumps(facts) + "\n"


def trace(request_id: str = ID) -> list[dict[str, Any]]:
    output = io.StringIO()
    call_command("trace", request_id, json=True, stdout=output)
    return [json.loads(line) for line in output.getvalue().splitlines()]


@pytest.fixture
def action() -> Action:
    """The start of a new server, which failed; all of it was asked for under ID."""
    make.host()
    make.pool()
    with requestid.bound(ID):
        vm = make.ordered("web-1").vm
    action = Action.objects.of_request(ID).get(command="start_server")
    action.status, action.finished = "error", timezone.now()
    action.error_code, action.error_message = "timeout", "the host did not start it"
    action.save()
    assert action.resources.get().resource_id == vm.pk
    return action


def test_rows_and_logs_are_one_story_in_order(action: Action, logs: Path) -> None:
    (logs / "web.log").write_text(logged("request", -60, path="/v1/servers"))
    (logs / "agent-h1.log").write_text(logged("step failed", 60, level="error", vm=1))
    *story, missing = trace()
    assert [(moment["host"], moment["source"], moment["event"]) for moment in story] == [
        ("", "web", "request"),
        ("h1", "row", "placed"),
        ("h1", "row", "placed"),
        ("", "row", "primary_ip.create by system undeclared"),
        ("", "row", "create_server asked for"),
        ("", "row", "start_server asked for"),
        ("h1", "row", "queued"),
        ("h1", "row", "queued"),
        ("", "row", "server.create by system undeclared"),
        ("", "row", "start_server ended: error"),
        ("h1", "agent", "step failed"),
    ]
    asked, ended, failed = story[5], story[-2], story[-1]
    assert asked["fields"]["server"] == action.resources.get().resource_id
    assert asked["fields"]["deadline"]
    assert ended["fields"]["reason"] == "the host did not start it"
    assert [moment for moment in story if moment["error"]] == [ended, failed]
    assert failed["fields"] == {"vm": 1}
    assert missing["missing"].endswith("is missing")


def test_people_read_when_it_began_and_where(action: Action, logs: Path) -> None:
    (logs / "web.log").write_text(logged("request", -60))
    output = io.StringIO()
    call_command("trace", ID, stdout=output)
    first, second, *_ = output.getvalue().splitlines()
    assert first.startswith(f"Request {ID}, from 20")
    assert second.split() == ["+0.000", "web", "request"]


def test_an_id_that_nobody_knows_is_an_error(action: Action, logs: Path) -> None:
    with pytest.raises(CommandError, match="no row and no log knows request abc\nMissing: "):
        trace("abc")


@pytest.mark.parametrize("malformed", ["a b", "x" * 129, "<script>", ""])
def test_what_is_no_id_is_told_what_an_id_looks_like(malformed: str) -> None:
    with pytest.raises(CommandError, match="is no request id: those are up to 128 letters"):
        trace(malformed)


@pytest.fixture
def h9(rabbitmq: str, logs: Path) -> Iterator[None]:
    """An agent that answers remote control; control has no logs of its own."""
    declare_cloud(rabbitmq)
    declare_host(rabbitmq, "h9")
    nowhere = Path("/nowhere")
    app = agent.make_app(HostConfig("h9", rabbitmq, state_dir=nowhere, run_dir=nowhere))
    app.conf.update(include=[])

    @app.task(name="test.nothing")
    def nothing() -> None:
        """Makes the worker load what a task needs, as every agent has."""

    with start_worker(app, pool="threads", hostname="agent@h9", perform_ping_check=False):
        yield


# Celery's own test worker leaves its sockets to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning", "ignore::DeprecationWarning")
def test_hosts_are_asked_for_their_logs_and_a_silent_one_is_named(h9: None, logs: Path) -> None:
    for name in ("h3", "h9"):
        make.host(name)
    (logs / "agent.log").write_text(logged("step", 0, step="boot"))
    gap, moment = host_logs(ID)
    assert isinstance(moment, Moment)
    assert (moment.place, moment.text, moment.fields) == ("h9/agent", "step", {"step": "boot"})
    assert gap == Gap("h3 did not answer: its part is missing")
