"""What Celery's remote control, and so Flower, may see of a task: its summary.

Arguments are whole documents, with user data and a password's hash in them. Both apps name
`SummaryRequest` as their tasks' request class; only a worker ever imports this module.
"""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request


class SummaryRequest(Request):
    """Answers `inspect active` and `inspect reserved` with the sender's `argsrepr`."""

    def info(self, safe: bool = True) -> Any:
        """The task in short; the raw arguments are never given away."""
        return super().info(safe=True)
