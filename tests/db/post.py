"""Messages as anybody could send them, and control's reader of dead letters."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kombu import Connection, Exchange

from cloud.broker import REPORTS
from cloud.deadqueue import DeadQueue
from cloud.models import DeadLetter
from deploy import broker as broker_service
from tests.conftest import SERVICES
from vms import dead_letters


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)


class Post:
    """Puts messages into queues, as anybody with the connection's rights could."""

    def __init__(self, url: str) -> None:
        self.url = url

    def send(
        self,
        body: object,
        *,
        task: str | None = "reports.vm",
        key: str = "report",
        exchange: str = REPORTS,
        **options: Any,
    ) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        identity = {"id": options.pop("id", "t-1"), "root_id": "t-1"}
        headers = {"task": task, **identity, **options.pop("headers", {})}
        headers = {name: value for name, value in headers.items() if value is not None}
        with Connection(self.url) as connection:
            there = Exchange(exchange, "topic", no_declare=True)
            connection.Producer(exchange=there, auto_declare=False).publish(
                raw,
                routing_key=key,
                headers=headers,
                content_type=options.pop("content_type", "application/json"),
                content_encoding=options.pop("content_encoding", "utf-8"),
                **options,
            )


def call(*arguments: object, **embedded: object) -> list[object]:
    return [list(arguments), {}, embedded]


@contextmanager
def reading(url: str) -> Iterator[None]:
    """Control's reader of dead letters, which its worker starts once it is ready."""
    end = DeadQueue(url, dead_letters.keep).start()
    try:
        yield
    finally:
        end()


def letter(reason: str = "rejected") -> DeadLetter:
    until(lambda: DeadLetter.objects.exists())
    found = DeadLetter.objects.get()
    assert found.reason == reason
    return found


def ready_messages(queue: str) -> int:
    with Connection(broker_service.url(SERVICES.instance)) as connection:
        return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
