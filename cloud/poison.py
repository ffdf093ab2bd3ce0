"""Which messages a worker of ours takes: tasks as `send_task` makes them, and nothing beyond. Pure.

Celery's protocol can do much more than we use, and trusts whoever writes to a queue: a message may
name callbacks, which the worker then sends with its own rights, a time before which it must be
held, or a compressed body of any size. It acknowledges what it cannot decode, and some messages end
the worker itself. So every message is looked at first (`cloud.intake`), and what is unfit goes to
the dead-letter queue.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

# The largest document is that of a network with thousands of members: far below a MiB.
MOST_BYTES: Final = 4 * 2**20

# Exchange → how the names of tasks begin that may come by it; hosts can write to the second alone.
TASKS_BY_EXCHANGE: Final[Mapping[str, tuple[str, ...]]] = {
    "control": ("control.",),
    "reports": ("reports.",),
}
# Headers that would make Celery hold, unpack or kill something; none of ours is ever set.
_UNUSED = ("eta", "compression", "group", "stamps", "stamped_headers")


@dataclass(frozen=True)
class Message:
    """A message as it came; `exchange`: that it was published to first. `sender`: the broker user
    that the broker verified, "" if the message names none.
    """

    body: bytes
    content_type: str
    content_encoding: str
    headers: Mapping[str, Any]
    exchange: str
    sender: str = ""

    @property
    def task(self) -> str:
        name = self.headers.get("task")
        return name if isinstance(name, str) else ""


def unfit(message: Message, known: Collection[str] | None = None) -> str | None:
    """Why a worker does not take the message; None if it does. `known`: its tasks' names."""
    return unfit_outside(message, known) or _bad_body(message.body)


def unfit_outside(message: Message, known: Collection[str] | None = None) -> str | None:
    """The same without a look at what is in its body."""
    if len(message.body) > MOST_BYTES:
        return f"it has {len(message.body)} bytes, at most {MOST_BYTES} are taken"
    if message.content_type != "application/json":
        return f"its content type is {message.content_type[:64]!r}, only application/json is taken"
    if message.content_encoding.lower() not in ("utf-8", "us-ascii"):
        return f"its encoding is {message.content_encoding[:32]!r}, only UTF-8 is taken"
    return _bad_headers(message, known)


def _bad_headers(message: Message, known: Collection[str] | None) -> str | None:
    headers = message.headers
    if not message.task:
        return "it names no task"
    if not isinstance(headers.get("id"), str):
        return "it has no task id"
    if used := [name for name in _UNUSED if headers.get(name)]:
        return f"its header {used[0]!r} is set, which is never used here"
    limits = headers.get("timelimit")
    if any(limits) if isinstance(limits, list | tuple) else limits:
        return "it sets time limits, which are never used here"
    begins = TASKS_BY_EXCHANGE.get(message.exchange, ())
    if not message.task.startswith(begins or ("",)):
        return f"task {message.task[:64]!r} may not come by exchange {message.exchange!r}"
    if known is not None and message.task not in known:
        return f"task {message.task[:64]!r} is unknown: run the same release everywhere"
    return None


def _bad_body(body: bytes) -> str | None:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        return f"its body is not JSON: {type(error).__name__}"
    match content:
        case [list(), dict(), dict() as embedded]:
            if used := [str(name) for name, value in embedded.items() if value]:
                return f"it carries {used[0][:32]!r}, with which a worker would send more messages"
            return None
    return "its body is not a list of arguments, named arguments and options"


def document_of(body: bytes) -> dict[str, Any]:
    """The document that is a task's only argument; empty if there is none to be read."""
    if len(body) > MOST_BYTES:
        return {}
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    match content:
        case [[dict() as document, *_], *_]:
            return document
    return {}
