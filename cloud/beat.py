"""Beat's timetable under a clock that may be set: the sweep is the guarantee, it must go on.

Celery asks the wall clock how long ago a task was sent. After the clock was set back by an hour
nothing would be due for an hour, in which no gap is found and no deadline ends anything.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery.beat import PersistentScheduler

log = structlog.get_logger(__name__)


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
