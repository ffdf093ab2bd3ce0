"""What a cloud left behind about its requests: log lines, messages, Flower's tasks, Actions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import httpx
from kombu import Connection, Consumer, Exchange, Queue

from cloud.broker import HOSTS_EXCHANGE, REPORTS
from deploy import broker, control
from deploy.state import Instance

Line = dict[str, Any]


def lines_by_request(instance: Instance) -> dict[str, list[Line]]:
    """Every JSON line of every program's log that names a request, in the order of time."""
    found: dict[str, list[Line]] = defaultdict(list)
    for path in instance.log.glob("*.log*"):
        for text in path.read_text(errors="replace").splitlines():
            if not text.startswith("{"):
                continue
            try:
                line = json.loads(text)
            except ValueError:
                continue  # its writer was killed in the middle of it
            if request_id := line.get("request_id"):
                found[request_id].append(line)
    for lines in found.values():
        lines.sort(key=lambda line: str(line["time"]))
    return found


def tasks_by_request(instance: Instance) -> dict[str, list[dict[str, Any]]]:
    """What Flower shows of each request."""
    auth = (control.FLOWER_USER, instance.passwords.flower)
    answer = httpx.get(
        f"{instance.flower_url}/api/tasks", params={"limit": 100_000}, auth=auth, timeout=60
    )
    answer.raise_for_status()
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for task in answer.json().values():
        found[str(task["kwargs"]).removeprefix("request_id=")].append(task)
    return found


class Messages:
    """Copies of everything that was sent to hosts and by them: request id, task, document."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, Any]]] = []

    def by_request(self) -> dict[str, list[tuple[str, dict[str, Any]]]]:
        found: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        for request_id, task, document in self.seen:
            found[request_id].append((task, document))
        return found

    def keep(self, body: Any, message: Any) -> None:
        self.seen.append((message.headers["request_id"], message.headers["task"], body[0][0]))


@contextmanager
def tapped_broker(instance: Instance) -> Iterator[Messages]:
    """Meanwhile, a queue of our own gets a copy of every message."""
    messages, done = Messages(), Event()
    queues = [
        Queue(f"tap.{name}", Exchange(name, "topic"), "#", exclusive=True)
        for name in (HOSTS_EXCHANGE, REPORTS)
    ]

    def listen(connection: Connection) -> None:
        while not done.is_set():
            try:
                connection.drain_events(timeout=0.5)
            except TimeoutError:
                continue

    with (
        Connection(broker.url(instance)) as connection,
        Consumer(connection, queues, callbacks=[messages.keep], no_ack=True),
    ):
        thread = Thread(target=listen, args=(connection,))
        thread.start()
        try:
            yield messages
        finally:
            done.set()
            thread.join()
