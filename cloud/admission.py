"""Which messages control's worker takes: what one may do depends on who sent it, and by which way.

RabbitMQ verifies `user_id` where a message carries one, and every host may publish to the reports
exchange whatever it likes: other tasks' names, no name at all, Celery's callbacks, which a worker
would send on in control's own name. So nothing is believed but the exchange that delivered the
message and a verified sender. `cloud.doorkeeper` asks `refusal` before Celery looks at a message;
see there for what becomes of those that are refused.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from cloud.broker import REPORTS, is_host
from cloud.poison import MOST_BYTES, TASKS_BY_EXCHANGE, Message
from cloud.wire import known

CONTROL: Final = "control"

# Longer than any name or summary that Cumulet sends.
Text = Annotated[str, Meta(max_length=1024)]


class Reason(StrEnum):
    """Why a message was refused: the label of a metric, so there are few."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    UNVERIFIED = "unverified"
    FOREIGN = "foreign"


class _Headers(Struct, frozen=True):
    """Celery's headers, protocol 2, of a task that runs once, now, and for nobody else."""

    id: Text
    task: Text
    root_id: Text
    parent_id: Text | None = None
    argsrepr: Annotated[str, Meta(max_length=2**16)] | None = None
    kwargsrepr: Text | None = None
    origin: Text | None = None
    expires: Text | None = None
    eta: None = None
    group: None = None
    group_index: None = None
    shadow: None = None
    compression: None = None
    retries: Literal[0] | None = None
    timelimit: tuple[None, None] | None = None


class _Afterwards(Struct, frozen=True, forbid_unknown_fields=True):
    """What Celery would send after the task: nothing, or a host could send it in our name."""

    callbacks: None = None
    errbacks: None = None
    chain: None = None
    chord: None = None


class _NoKeywords(Struct, frozen=True, forbid_unknown_fields=True):
    """No task of ours is called with any."""


# Strict: no NaN, no half of a surrogate pair, both of which Python's own decoder lets pass.
_BODY: Final = msgspec.json.Decoder(
    tuple[Annotated[tuple[dict[str, Any], ...], Meta(max_length=1)], _NoKeywords, _Afterwards]
)


def refusal(message: Message, control: str) -> Reason | None:
    """Why the message must not be worked on, None if it may be. `control`: its own broker user."""
    if len(message.body) > MOST_BYTES:
        return Reason.TOO_LARGE
    try:
        headers = msgspec.convert(dict(message.headers), known(_Headers))
        arguments, _, _ = _BODY.decode(message.body)
        nul = _holds_nul(arguments)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Reason.MALFORMED
    if message.content_type != "application/json" or nul:
        return Reason.MALFORMED
    if not message.sender:
        return Reason.UNVERIFIED
    if message.sender == control:
        own = message.exchange == CONTROL and headers.task.startswith(TASKS_BY_EXCHANGE[CONTROL])
        return None if own else Reason.FOREIGN
    return None if _is_report(headers, message) else Reason.FOREIGN


def _is_report(headers: _Headers, message: Message) -> bool:
    return (
        is_host(message.sender)
        and headers.task.startswith(TASKS_BY_EXCHANGE[REPORTS])
        and message.exchange == REPORTS
        and headers.expires is None
    )


def _holds_nul(value: object) -> bool:
    """PostgreSQL's texts cannot hold it, nobody writes it, and it would fail the whole report."""
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_holds_nul(key) or _holds_nul(inner) for key, inner in value.items())
        case list() | tuple():
            return any(map(_holds_nul, value))
        case _:
            return False
