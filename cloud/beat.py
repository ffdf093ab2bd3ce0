"""Beat's timetable: it goes on when the clock is set, and when the broker is away.

The sweep is the guarantee, and beat has it sent. Celery asks the wall clock how long ago a task
was sent: after the clock was set back by an hour nothing would be due for an hour. And while the
broker is away nothing can be sent; then beat itself does what needs no host, so that servers of
hosts that nobody hears are unknown and no Action outlives its deadline.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery.beat import PersistentScheduler, ScheduleEntry, SchedulingError
from django.db import close_old_connections

log = structlog.get_logger(__name__)

# What is done here in place of a task that cannot be sent.
WITHOUT_BROKER = {"control.sweep": "control.watch"}


class Scheduler(PersistentScheduler):
    """Celery's own, for which what was sent in the future was sent now."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due; answers after how many seconds to ask again."""
        now = self.app.now()
        ahead = [e for e in self.schedule.values() if e.last_run_at and e.last_run_at > now]
        if ahead:
            log.warning("clock was set back", at=now.isoformat())
            for entry in ahead:
                entry.last_run_at = now
            self._heap = None  # made anew from the entries
        delay: float = super().tick(*args, **kwargs)
        return delay

    def apply_async(self, entry: ScheduleEntry, *args: Any, **kwargs: Any) -> Any:
        """Send the entry's task, or do what is done without it; raises SchedulingError."""
        try:
            return super().apply_async(entry, *args, **kwargs)
        except SchedulingError:
            if substitute := WITHOUT_BROKER.get(entry.task or ""):
                close_old_connections()
                self.app.tasks[substitute].apply()
            raise
