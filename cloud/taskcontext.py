"""Every task knows which request it works for; what it sends, and every line it logs, says so.

Celery's signals do it for both apps and for every pool, threads, prefork or eager: the id is taken
from the message's header before the task runs, bound while it runs (also while Celery itself
complains about it), and reset after. A periodic task has no request behind it and gets an id of
its own for each run. Importing this module is enough.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import structlog
from celery.signals import before_task_publish, task_postrun, task_prerun

from cloud import logs, requestid, telemetry

log = structlog.get_logger(__name__)

# Tasks that come every few seconds and say little: their lines are for debugging.
QUIET = frozenset(
    {"reports.host", "reports.unchanged", "reports.usage", "control.sweep", "control.watch"}
)


class Running:
    """One task while it runs: what was bound for it, and when it began."""

    def __init__(self, task: Any) -> None:
        self._began = time.monotonic()
        self._task = task
        self._bound = ExitStack()
        headers = task.request.headers or {}
        request_id = requestid.usable_or_fresh(headers.get(requestid.HEADER))
        self._bound.enter_context(requestid.bound(request_id))
        self._bound.enter_context(logs.bound(task=task.name))
        self._span = self._bound.enter_context(telemetry.span(task.name, task_id=task.request.id))

    def end(self, state: str) -> None:
        say = log.debug if self._task.name in QUIET else log.info
        say(
            "task ended",
            state=state.lower(),
            duration=round(time.monotonic() - self._began, 4),
            task_id=self._task.request.id,
        )
        if state != "SUCCESS":
            telemetry.fail(self._span, state)
        self._bound.close()


@before_task_publish.connect
def _send_on(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """Give the message the id of what it is sent for, where people see it in Flower too."""
    if headers is not None:
        request_id = requestid.usable_or_fresh(headers.get(requestid.HEADER) or requestid.current())
        headers[requestid.HEADER] = request_id
        headers["kwargsrepr"] = f"{requestid.HEADER}={request_id}"


@task_prerun.connect
def _begin(task: Any, **_: Any) -> None:
    task.request.running = Running(task)


@task_postrun.connect
def _end(task: Any, state: str | None = None, **_: Any) -> None:
    running: Running | None = getattr(task.request, "running", None)
    if running is not None:
        running.end(state or "unknown")
