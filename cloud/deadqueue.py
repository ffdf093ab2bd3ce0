"""Reads the dead-letter queue: whatever lands there, and nothing can block it.

A thread of control's worker with a connection of its own, because a worker of Celery's would
refuse, and so lose, the very messages that are to be read here. `vms.dead_letters` keeps them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event, Thread
from typing import Any

import structlog
from django.db import close_old_connections, connections
from kombu import Connection
from kombu.mixins import ConsumerMixin

from cloud import properties
from cloud.broker import DELIVERY_LIMIT, dead_queue
from cloud.intake import message_of, remembered
from cloud.poison import Message
from cloud.workerdb import AWAY

log = structlog.get_logger(__name__)

# Seconds between two tries while the database is away, and that ending may take.
_PAUSE, _END_SECONDS = 1.0, 5.0


@dataclass(frozen=True)
class DeadMessage:
    """A message and how it died. The broker wrote all of this but `message`'s headers.

    reason: `rejected`, `delivery_limit`, `expired` or `maxlen`. deliveries: how often it was
    delivered before, 0 if the broker does not say. raised: what its task raised, if this process
    saw that.
    """

    message: Message
    queue: str
    reason: str
    deliveries: int
    raised: str


def dead_message(raw: Any) -> DeadMessage:
    """What was received from the dead-letter queue, whatever its headers look like."""
    message = message_of(raw)
    death = _last_death(message.headers)
    reason = str(death.get("reason") or "unknown")
    count = message.headers.get("x-delivery-count")
    if not isinstance(count, int):
        count = DELIVERY_LIMIT + 1 if reason == "delivery_limit" else 0
    original = replace(message, exchange=str(death.get("exchange") or ""))
    return DeadMessage(
        message=original,
        queue=str(death.get("queue") or "unknown"),
        reason=reason,
        deliveries=count,
        raised=remembered(message.headers.get("id")),
    )


def _last_death(headers: Any) -> dict[str, Any]:
    """The broker puts the newest death first, whatever a sender wrote there."""
    deaths = headers.get("x-death")
    first = deaths[0] if isinstance(deaths, list) and deaths else None
    return first if isinstance(first, dict) else {}


class DeadQueue(ConsumerMixin):
    """Gives every dead message to `keep`, which must not raise for what is in the message."""

    def __init__(self, broker_url: str, keep: Callable[[DeadMessage], object]) -> None:
        properties.outlive_unreadable()
        self.connection = Connection(broker_url, connect_timeout=5, heartbeat=0)
        self._keep = keep
        self._ending = Event()

    def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
        reader = consumer([dead_queue()], on_message=self._take, prefetch_count=1)
        # What kombu could not unpack is kept like anything else.
        reader.on_decode_error = lambda raw, _: self._take(raw)
        return [reader]

    def start(self) -> Callable[[], None]:
        """Read in a thread; answers what ends it."""
        thread = Thread(target=self._run, name="dead-letters", daemon=True)
        thread.start()

        def end() -> None:
            self.should_stop = True
            self._ending.set()
            thread.join(_END_SECONDS)

        return end

    def _run(self) -> None:
        while not self.should_stop:
            try:
                self.run()
            except Exception:
                log.exception("reading dead letters stopped, it begins again")
                self._ending.wait(_PAUSE)
        connections.close_all()

    def _take(self, raw: Any) -> None:
        """Answer the message whatever happens, but while the database is away."""
        while not self._ending.is_set():
            close_old_connections()
            try:
                self._keep(dead_message(raw))
            except AWAY as error:
                log.warning("dead letter waits for the database", error=type(error).__name__)
                self._ending.wait(_PAUSE)
                connections.close_all()
                continue
            except Exception:
                log.exception("dead letter lost, nobody can read it")
            raw.ack()
            return
        raw.requeue()
