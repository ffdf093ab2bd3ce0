"""How workers take messages: each is looked at first, and what is unfit goes to the dead queue.

Celery alone would acknowledge, and so lose, what it cannot decode, and would do what a message says
beyond its task (`cloud.poison`); and a message that no code of Celery expects would end the worker,
once for each time that it is delivered. Only workers import this module: the apps name it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from celery.worker.consumer import Consumer
from kombu import compression

from cloud import properties
from cloud.intake import message_of, remember
from cloud.poison import unfit

log = structlog.get_logger(__name__)


class Compressed(Exception):
    """Nobody of ours compresses messages, and a small one could fill the memory."""


def _refuse(body: bytes) -> bytes:
    raise Compressed("messages are never compressed here")


class CarefulConsumer(Consumer):
    """Refuses what is unfit, and what it stumbles over, so that no message blocks those behind.

    It neither greets other workers nor listens to their gossip, however it is started: every host
    may write there, and Celery ends the worker for an answer or an event that it does not expect.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for kind in compression.encoders():  # kombu unpacks before anybody can look
            compression.register(_refuse, _refuse, kind)
        properties.outlive_unreadable()
        super().__init__(*args, **{**kwargs, "without_mingle": True, "without_gossip": True})

    def examine(self, raw: Any) -> str | None:
        """Why the message is not taken, which makes it a dead letter; None if it is."""
        ours: Any = self
        return unfit(message_of(raw), ours.strategies)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        take = super().create_task_handler(*args, **kwargs)
        ours: Any = self  # the stubs know only half of a consumer
        broken = (*ours.connection_errors, *ours.connection.channel_errors)

        def on_message(raw: Any) -> None:
            problem = None
            try:
                problem = self.examine(raw)
                if problem is None:
                    take(raw)
            except broken:
                raise
            except Exception as error:
                log.exception("worker stumbled over a message", error=type(error).__name__)
                problem = f"the worker stumbled over it: {type(error).__name__}: {error}"
                remember((raw.headers or {}).get("id"), problem)
            if problem is not None and not raw.acknowledged:
                log.error("message refused", reason=problem)
                raw.reject_log_error(log, broken)

        return on_message

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """What kombu could not unpack; Celery's own would write the whole body into the log."""
        log.error("message refused", reason="it cannot be unpacked", error=type(exc).__name__)
        message.reject_log_error(log, (Exception,))


class HostConsumer(CarefulConsumer):
    """Without the step that declares 28 queues for delayed tasks.

    There are no delayed tasks, and a host may declare nothing.
    """

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc, valid-type]  # a nested class
        default_steps = tuple(
            step for step in Consumer.Blueprint.default_steps if "DelayedDelivery" not in str(step)
        )
