"""What becomes of a message whose task fails: it waits, it is done with, or it is a dead letter.

Both apps use it, `cloud.celery` for control and `cloud.agent` for hosts; what their workers do with
messages that name no task of theirs is in `cloud.worker`. Celery alone would acknowledge, and so
lose, the message of every task that raises.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

import structlog
from celery import Task
from celery.exceptions import Ignore, Reject, Retry

from cloud import poison

log = structlog.get_logger(__name__)

# What tasks raised, by task id: the broker's dead letters do not carry it.
_raised: OrderedDict[str, str] = OrderedDict()
_raised_lock = Lock()
_MOST_REMEMBERED = 1000


def message_of(raw: Any) -> poison.Message:
    """What Celery or kombu received, as `cloud.poison` looks at it."""
    properties = raw.properties if isinstance(raw.properties, dict) else {}
    return poison.Message(
        body=_as_bytes(raw.body),
        content_type=str(raw.content_type or ""),
        content_encoding=str(raw.content_encoding or ""),
        headers=raw.headers if isinstance(raw.headers, dict) else {},
        exchange=str((raw.delivery_info or {}).get("exchange") or ""),
        sender=str(properties.get("user_id") or ""),
    )


def _as_bytes(body: Any) -> bytes:
    """What the message's encoding made of it may hold halves of characters."""
    return body.encode(errors="surrogatepass") if isinstance(body, str) else bytes(body or b"")


def remembered(task_id: object) -> str:
    """What this process saw the task raise; empty if it did not, or long ago."""
    with _raised_lock:
        return _raised.pop(task_id, "") if isinstance(task_id, str) else ""


def task_class(
    passing: tuple[type[Exception], ...], pause: Callable[[], None] | None = None
) -> type[Task[Any, Any]]:
    """The base of an app's tasks: what a task raises decides what becomes of its message.

    `passing` errors say nothing about the message. With `pause`, which returns once it makes
    sense to try again, it goes back to its queue; without, it is done with: all messages are hints,
    and are sent again. Whatever else a task raises it would raise every time: a dead letter.
    """

    class CarefulTask(Task):  # type: ignore[type-arg]  # not generic at run time
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            # Not `Task.__call__`, which would hide the message's properties from the task.
            try:
                return self.run(*args, **kwargs)
            except (Ignore, Reject, Retry):
                raise
            except passing as error:
                log.exception("task stopped by its surroundings", error=type(error).__name__)
                if pause is None:
                    raise Ignore(str(error)) from error
                pause()
                raise Reject(str(error), requeue=True) from error
            except Exception as error:
                log.exception("message refused", error=type(error).__name__)
                remember(self.request.id, f"{type(error).__name__}: {_without_rows(error)}")
                raise Reject(str(error), requeue=False) from error

    return CarefulTask


def _without_rows(error: Exception) -> str:
    """What went wrong: PostgreSQL adds the whole row, with whatever is secret in it."""
    return str(error).partition("\nDETAIL:")[0]


def remember(task_id: object, text: str) -> None:
    if not isinstance(task_id, str):
        return
    with _raised_lock:
        _raised[task_id] = text
        while len(_raised) > _MOST_REMEMBERED:
            _raised.popitem(last=False)
