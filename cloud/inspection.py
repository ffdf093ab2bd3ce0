"""What a worker answers to Celery's remote control: a task's summary, a request's log lines.

Flower sees summaries only: arguments are whole documents, with user data and a password's hash in
them. Both apps name `SummaryRequest` as their tasks' request class; only a worker ever imports this
module.
"""

from __future__ import annotations

from typing import Any

import msgspec
from celery.worker.control import inspect_command
from celery.worker.request import Request

from cloud import logsearch


class SummaryRequest(Request):
    """Answers `inspect active` and `inspect reserved` with the sender's `argsrepr`."""

    def info(self, safe: bool = True) -> Any:
        """The task in short; the raw arguments are never given away."""
        return super().info(safe=True)


@inspect_command()
def trace(state: Any, request_id: str = "") -> Any:
    """What this machine's logs say about a request; `manage.py trace` asks every agent."""
    return msgspec.to_builtins(logsearch.answer(request_id))
