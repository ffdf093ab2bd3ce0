"""Messages that nobody can work on: the queue moves on, its worker lives, others do not wait."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from kombu import Connection

from cloud.broker import HOSTS_EXCHANGE, REPORTS
from deploy import broker, control
from tests.e2e.faults.leaks import waiting
from tests.e2e.faults.trial import Trial
from tests.e2e.world import until

_MEBIBYTES = 24
# Exchange, routing key, and a task that is known there.
_QUEUES = (
    (HOSTS_EXCHANGE, "host.h1", "vms.ensure"),
    (HOSTS_EXCHANGE, "host.h1.bulk", "images.fetch"),
    ("control", "control", "vms.remove"),
    (REPORTS, "report", "reports.vm"),
)
_KINDS = {
    "not JSON": lambda task: _message(task, body=b"\x00\xff{"),
    "of a foreign type": lambda task: {
        **_message(task, body=b"\x80\x04N."),
        "content_type": "application/x-python-serialize",
    },
    "no task at all": lambda task: {**_message(task, body=b"{}"), "headers": {}},
    "unknown task": lambda task: _message("no.such.task", [{}]),
    "wrong arguments": lambda task: _message(task, [1, 2, 3]),
    "malformed document": lambda task: _message(task, [{"vm_id": "../etc", "version": 1}]),
    "huge": lambda task: _message(task, [{"vm_id": 1, "user_data": "x" * (_MEBIBYTES * 2**20)}]),
}


@pytest.mark.parametrize("kind", _KINDS)
def test_a_poisoned_message_holds_up_no_queue(trial: Trial, kind: str) -> None:
    cloud, guests = trial.world.cloud, trial.qemus()
    programs = (trial.host("h1").agent, control.WORKER)
    before = [cloud.supervisor.pid(name) for name in programs]
    with trial.under_load(f"poisoned message: {kind}"):
        with Connection(broker.url(cloud.instance)) as connection:
            producer = connection.Producer()
            for exchange, key, task in _QUEUES:
                producer.publish(exchange=exchange, routing_key=key, **_KINDS[kind](task))
        until(lambda: not _unacknowledged(trial), "nobody holds it any more", seconds=30)
    assert [cloud.supervisor.pid(name) for name in programs] == before, "all workers live"
    assert trial.qemus() == guests


def _message(task: str, args: list[Any] | None = None, body: bytes = b"") -> Mapping[str, Any]:
    """What Celery sends (protocol 2), with `body` in place of the arguments if there is one."""
    identity = str(uuid.uuid4())
    return {
        "body": body or json.dumps([args, {}, {}]).encode(),
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": {"lang": "py", "task": task, "id": identity, "root_id": identity},
        "properties": {"correlation_id": identity},
        "delivery_mode": 2,
    }


def _unacknowledged(trial: Trial) -> bool:
    return bool(waiting(trial.world.cloud))
