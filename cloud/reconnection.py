"""How soon the cloud's programs are back after their broker was away: both Celery apps use it.

Celery waits two seconds longer after each attempt, up to half a minute; after an outage of a minute
users would wait that much longer for nothing.
"""

from __future__ import annotations

from typing import Any

from celery.app.amqp import AMQP
from kombu import Connection

MOST_SECONDS = 3


class Insistent(Connection):
    """Asks for a broker that is away every few seconds, however long it has been away."""

    def _ensure_connection(  # type: ignore[override]  # the rest by keyword
        self,
        errback: Any = None,
        max_retries: int | None = None,
        interval_start: int = 2,
        interval_step: int = 2,
        interval_max: int = MOST_SECONDS,
        **options: Any,
    ) -> Any:
        intervals = (interval_start, interval_step, interval_max)
        return super()._ensure_connection(errback, max_retries, *intervals, **options)


class Amqp(AMQP):
    """What a Celery app is given as its `amqp`."""

    Connection = Insistent
