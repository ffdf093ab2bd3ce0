"""How often a project may ask, and the headers that tell it.

A bucket per project holds an hour's worth of requests and is refilled evenly. Buckets live in
the web process: with several processes each grants the full rate.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from threading import Lock

from django.conf import settings


@dataclass(frozen=True)
class Rate:
    """The state of a bucket after a request; times in seconds."""

    limit: int
    remaining: float
    allowed: bool = True

    @property
    def wait(self) -> float:
        """Until the next request is allowed."""
        return max(0.0, 1 - self.remaining) * 3600 / self.limit

    def headers(self, now: float) -> dict[str, str]:
        """`now` in Unix time; Reset is when the bucket is full again."""
        full_in = (self.limit - self.remaining) * 3600 / self.limit
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(int(self.remaining)),
            "RateLimit-Reset": str(math.ceil(now + full_in)),
        }


class Buckets:
    """Token buckets by key."""

    def __init__(self) -> None:
        self._levels: dict[int, tuple[float, float]] = {}
        self._lock = Lock()

    def take(self, key: int, limit: int, now: float) -> Rate:
        """Take one request out of the bucket; `now` from a monotonic clock."""
        with self._lock:
            level, then = self._levels.get(key, (float(limit), now))
            level = min(limit, level + (now - then) * limit / 3600)
            allowed = level >= 1
            level -= allowed
            self._levels[key] = (level, now)
        return Rate(limit, level, allowed)


_buckets = Buckets()


def take(project_id: int) -> Rate:
    """Count one request of the project."""
    return _buckets.take(project_id, settings.API_REQUESTS_PER_HOUR, time.monotonic())


def untouched() -> Rate:
    """What a caller without a project is told."""
    return Rate(settings.API_REQUESTS_PER_HOUR, settings.API_REQUESTS_PER_HOUR)
