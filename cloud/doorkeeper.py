"""How control's worker receives messages: those that `cloud.admission` refuses end here.

Celery's own handler trusts whoever may write to a queue: a header of a wrong type ends the whole
worker, and the message comes back to the next one. Only a worker ever imports this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from amqp.exceptions import PreconditionFailed
from celery.worker.consumer import Consumer
from django.conf import settings
from kombu import Connection, Exchange, compression

from cloud import admission
from cloud.admission import Message, Reason
from cloud.broker import user_of
from cloud.metrics import REFUSED_MESSAGES

log = structlog.get_logger(__name__)

# Celery's own, of all workers, as it declares them: mailboxes of remote control and its answers,
# and events, which Flower shows.
_SHARED = (
    Exchange("celery.pidbox", "fanout", durable=False),
    Exchange("reply.celery.pidbox", "direct", durable=False),
    Exchange("celeryev", "topic"),
)


class Compressed(Exception):
    """Nobody of ours compresses messages, and a small one could fill the memory."""


def _refuse(body: bytes) -> bytes:
    raise Compressed("messages to control are never compressed")


def _refuse_compression() -> None:
    """Messages are unpacked as they arrive, before anybody could look at them."""
    for kind in compression.encoders():
        compression.register(_refuse, _refuse, kind)


def mend_exchanges(connection: Connection) -> None:
    """Make those exchanges anew that somebody replaced by others of the same name.

    Workers of hosts declare them as well, so a host may delete them and make others, which would
    keep control's worker from starting: remote control and events may suffer, reports must not.
    """
    for exchange in _SHARED:
        try:
            with connection.channel() as channel:
                exchange(channel).declare()
        except PreconditionFailed:
            log.error("somebody replaced an exchange, making it anew", exchange=exchange.name)
            with connection.channel() as channel:
                bound: Any = exchange(channel)
                bound.delete()
                bound.declare()


class ControlConsumer(Consumer):
    """Celery's consumer behind a doorkeeper."""

    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _refuse_compression()
        super().__init__(*args, **kwargs)

    def connect(self) -> Any:
        """The connection, on which Celery finds its own exchanges as it will declare them."""
        connection = super().connect()
        mend_exchanges(connection)
        return connection

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        handle = super().create_task_handler(*args, **kwargs)
        control = user_of(settings.BROKER_URL)
        broken = (*self.connection_errors, *self.channel_errors)

        def on_message(message: Any) -> None:
            reason = admission.refusal(_as_delivered(message), control)
            if reason:
                self._drop(message, reason)
                return
            try:
                handle(message)
            except broken:
                raise
            except Exception:
                log.exception("message cannot be worked on")
                self._drop(message, Reason.UNUSABLE)

        return on_message

    def _drop(self, message: Any, reason: Reason) -> None:
        seen = _as_delivered(message)
        REFUSED_MESSAGES.labels(reason.value).inc()
        log.error(
            "message refused: if its sender is a host, somebody there is not who should be;"
            " `manage.py host_revoke NAME` cuts it off",
            reason=reason.value,
            sender=seen.sender,
            exchange=seen.exchange,
            task=seen.task,
            bytes=len(seen.body),
        )
        message.ack_log_error(log, self.connection_errors)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Celery's own would write the whole body into the log."""
        self._drop(message, Reason.MALFORMED)


def _as_delivered(message: Any) -> Message:
    body = message.body
    return Message(
        exchange=str(message.delivery_info.get("exchange") or ""),
        sender=str(message.properties.get("user_id") or ""),
        content_type=str(message.content_type or ""),
        headers=message.headers,
        body=body.encode(errors="surrogatepass") if isinstance(body, str) else bytes(body),
    )
