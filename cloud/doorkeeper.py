"""How control's worker receives messages: those that `cloud.admission` refuses end here.

What has no verified sender, or came by a way that is not its sender's, is dropped: a host that
forges messages must not fill the dead letters. What is merely unfit goes there, as on hosts
(`cloud.worker`). Only a worker ever imports this module.
"""

from __future__ import annotations

from typing import Any

import structlog
from amqp.exceptions import PreconditionFailed
from django.conf import settings
from kombu import Connection, Exchange

from cloud import admission, lanes
from cloud.admission import Reason
from cloud.broker import REPORTS, host_of, user_of
from cloud.hostconfig import reporter
from cloud.intake import message_of, remember
from cloud.metrics import REFUSED_MESSAGES
from cloud.poison import Message, unfit_outside
from cloud.worker import CarefulConsumer

log = structlog.get_logger(__name__)

# Celery's own, of all workers, as it declares them: mailboxes of remote control and its answers,
# and events, which Flower shows.
_SHARED = (
    Exchange("celery.pidbox", "fanout", durable=False),
    Exchange("reply.celery.pidbox", "direct", durable=False),
    Exchange("celeryev", "topic"),
)
_FORGED = (Reason.UNVERIFIED, Reason.FOREIGN)


def mend_broker(connection: Connection) -> None:
    """Make those exchanges anew that somebody replaced by others of the same name.

    Workers of hosts declare them as well, so a host may delete them and make others, which would
    keep control's worker from starting: remote control and events may suffer, reports must not.
    """
    channel: Any
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
    with connection.channel() as channel:
        channel.queue_delete(REPORTS)  # of before `LANELESS`, which nobody serves any more


class ControlConsumer(CarefulConsumer):
    """A consumer behind a doorkeeper."""

    def connect(self) -> Any:
        """The connection, on which Celery finds its own exchanges as it will declare them."""
        connection = super().connect()
        mend_broker(connection)
        return connection

    def examine(self, raw: Any) -> str | None:
        """As `CarefulConsumer.examine`; what is forged is dropped, and so no dead letter."""
        message = message_of(raw)
        if _is_too_much(raw, message):
            raw.ack_log_error(log, (Exception,))
            return "its host talks too much"
        reason = admission.refusal(message, user_of(settings.BROKER_URL))
        if reason is None:
            ours: Any = self
            return unfit_outside(message, ours.strategies)  # its body was looked at
        _note(message, reason)
        problem = f"control refuses what is {reason}"
        if reason in _FORGED:
            raw.ack_log_error(log, (Exception,))
        else:
            remember(message.headers.get("id"), problem)
        return problem

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        looked_at = message_of(message)
        if _is_too_much(message, looked_at):
            message.ack_log_error(log, (Exception,))
            return
        _note(looked_at, Reason.MALFORMED)
        super().on_decode_error(message, exc)


def _is_too_much(raw: Any, message: Message) -> bool:
    """Count it for its host. What is too much in a lane waits there, once that is closed; what came
    by none is dropped, or a host that names no lane could say as much as it likes.
    """
    if message.exchange == admission.CONTROL:
        return False
    laned = _reporter(raw)
    return not lanes.heard(laned or host_of(message.sender)) and not laned


def _note(message: Message, reason: Reason) -> None:
    REFUSED_MESSAGES.labels(reason.value).inc()
    log.error(
        "message refused: if its sender is a host, somebody there is not who should be;"
        " `manage.py host_revoke NAME` cuts it off",
        reason=reason.value,
        sender=message.sender,
        exchange=message.exchange,
        task=message.task[:100],
        bytes=len(message.body),
    )


def _reporter(raw: Any) -> str:
    """The host in whose lane it waited; "" if in none. No host can write to another's."""
    key = str(raw.delivery_info.get("routing_key") or "")
    return reporter(key) if raw.delivery_info.get("exchange") == REPORTS else ""
