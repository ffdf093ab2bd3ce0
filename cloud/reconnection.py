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

    def _ensure_connection(self, *args: Any, **options: Any) -> Any:
        return super()._ensure_connection(*args, **{"interval_max": MOST_SECONDS, **options})


class Amqp(AMQP):
    """What a Celery app is given as its `amqp`."""

    Connection = Insistent
