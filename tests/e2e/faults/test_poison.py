"""Messages that nobody can work on: the queue moves on, its worker lives, others do not wait.

Each has a sender that the broker verified: what has none is dropped before anybody looks at it
(tests/db/test_admission.py). So each ends as a dead letter, which says that it was looked at.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from kombu import Connection

from cloud.broker import HOSTS_EXCHANGE, REPORTS, broker_user, lane, user_of
from cloud.hostconfig import report_key
from deploy import broker, control
from tests.e2e.faults import inventory
from tests.e2e.faults.trial import Trial
from tests.e2e.world import until

_HOST = "h1"
# More than workers take, and less than what the broker refuses to its sender.
_MEBIBYTES = 6


@dataclass(frozen=True)
class _Way:
    """Into a queue: exchange, routing key, and a task that is known there.

    `from_host`: whether the host sends, or control.
    """

    queue: str
    exchange: str
    key: str
    task: str
    from_host: bool = False


_WAYS = (
    _Way("host.h1", HOSTS_EXCHANGE, "host.h1", "vms.ensure"),
    _Way("host.h1.bulk", HOSTS_EXCHANGE, "host.h1.bulk", "images.fetch"),
    _Way("control", "control", "control", "control.sweep"),
    _Way(lane(_HOST), REPORTS, report_key(_HOST), "reports.vm", from_host=True),
)
_KINDS = {
    "not JSON": lambda task: _message(task, body=b"\x00\xff{"),
    "of a foreign type": lambda task: {
        **_message(task, body=b"\x80\x04N."),
        "content_type": "application/x-python-serialize",
    },
    "no task at all": lambda task: {**_message(task, body=b"{}"), "headers": {}},
    "unknown task": lambda task: _message(f"{task}.of.tomorrow", [{}]),
    "wrong arguments": lambda task: _message(task, [1, 2, 3]),
    "malformed document": lambda task: _message(task, [{"vm_id": "../etc", "version": 1}]),
    "huge": lambda task: _message(task, [{"vm_id": 1, "user_data": "x" * (_MEBIBYTES * 2**20)}]),
}


@pytest.mark.parametrize("kind", _KINDS)
def test_a_poisoned_message_holds_up_no_queue(trial: Trial, kind: str) -> None:
    cloud, guests = trial.world.cloud, trial.qemus()
    programs = (trial.host(_HOST).agent, control.WORKER)
    workers = [cloud.supervisor.pid(name) for name in programs]
    letters = inventory.dead_letters(cloud.instance)
    with trial.under_load(f"poisoned message: {kind}"):
        for way in _WAYS:
            _send(trial, way, _KINDS[kind](way.task))
        until(
            lambda: (
                {way.queue for way in _WAYS}
                == set(inventory.dead_letters(cloud.instance) - letters)
            ),
            "it is a dead letter of every queue",
            seconds=60,
        )
    assert [cloud.supervisor.pid(name) for name in programs] == workers, "all workers live"
    assert trial.qemus() == guests


def _send(trial: Trial, way: _Way, message: Mapping[str, Any]) -> None:
    """As its sender's broker user: the broker refuses a `user_id` of somebody else."""
    url = broker.url(trial.world.cloud.instance)
    if way.from_host:
        url = _as_host(trial, url)
    with Connection(url) as connection:
        connection.Producer().publish(
            exchange=way.exchange, routing_key=way.key, user_id=user_of(url), **message
        )


def _as_host(trial: Trial, url: str) -> str:
    """The same broker with the host's own login, from what `host_bundle` gave it."""
    login = urlsplit(json.loads(trial.host(_HOST).bundle.read_text())["broker_url"])
    assert login.username == broker_user(_HOST)
    place = urlsplit(url)
    user = f"{login.username}:{login.password}"
    return place._replace(netloc=f"{user}@{place.hostname}:{place.port}").geturl()


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
