"""What control's worker does with messages before it looks at what is in them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cloud import lanes
from cloud.doorkeeper import ControlConsumer
from cloud.metrics import REFUSED_MESSAGES


class Raw(SimpleNamespace):
    """A message as kombu hands it over, without a body."""

    def __init__(self, key: str, exchange: str = "reports", sender: str | None = None) -> None:
        super().__init__(
            body=b"", headers={}, content_type="", content_encoding="", acknowledged=False,
            properties={"user_id": sender} if sender else {},
            delivery_info={"exchange": exchange, "routing_key": key},
        )  # fmt: skip

    def ack_log_error(self, *_: Any) -> None:
        self.acknowledged = True


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Any:
    queues = SimpleNamespace(consume_from={"reports.h1": None})
    closed: list[object] = []
    app = SimpleNamespace(amqp=SimpleNamespace(queues=queues))
    monkeypatch.setattr(lanes, "_lanes", None)
    lanes.attach(SimpleNamespace(app=app, call_soon=lambda _, host: closed.append(host)))
    consumer: Any = ControlConsumer.__new__(ControlConsumer)
    consumer.closed = closed
    return consumer


def dropped(worker: Any, times: int, *raw: str, **more: Any) -> int:
    """How many of so many messages were answered before anybody looked at them."""
    messages = [Raw(*raw, **more) for _ in range(times)]
    for message in messages:
        worker.examine(message)
    return sum(message.acknowledged for message in messages)


MANY = int(lanes.BURST) + 200


@pytest.mark.parametrize("sender", ["host-h1", None])
def test_who_names_no_lane_may_say_no_more_than_others(worker: Any, sender: str | None) -> None:
    refused = REFUSED_MESSAGES.labels("malformed")._value.get()
    assert dropped(worker, MANY, "report", sender=sender) > 100
    assert REFUSED_MESSAGES.labels("malformed")._value.get() < refused + MANY - 100


def test_what_waits_in_a_lane_is_not_dropped_but_the_lane_is_closed(worker: Any) -> None:
    assert dropped(worker, MANY, "report.h1", sender="host-h1") == 0
    assert set(worker.closed) == {"h1"}


def test_controls_own_work_is_never_too_much(worker: Any) -> None:
    assert dropped(worker, MANY, "control", exchange="control", sender="control") == 0
