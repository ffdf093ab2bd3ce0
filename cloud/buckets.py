"""Token buckets that all processes share: how often something may happen, and when it may again.

A row of PostgreSQL each, changed by one statement, so two web processes grant no more than one.
The table is not logged: taking costs no write to the disk, and a crash of the database only fills
the buckets again. Used for requests of the API and for logins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from django.db import connection, models
from django.utils import timezone


class Bucket(models.Model):
    """How much of something may still happen: written by this module alone."""

    key = models.CharField(max_length=128, primary_key=True)
    level = models.FloatField()
    allowed = models.BooleanField(help_text="Whether the last who asked got one.")
    at = models.DateTimeField(db_index=True, help_text="When that was.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.key


@dataclass(frozen=True)
class Size:
    """So many at once, and so many in an hour."""

    burst: int
    an_hour: int

    @property
    def seconds_each(self) -> float:
        return 3600 / self.an_hour


@dataclass(frozen=True)
class Level:
    """A bucket after somebody took from it, or was refused to."""

    size: Size
    remaining: float
    allowed: bool = True

    @property
    def wait(self) -> float:
        """Seconds until the next one is allowed."""
        return max(0.0, 1 - self.remaining) * self.size.seconds_each

    @property
    def full_in(self) -> float:
        """Seconds until the bucket is as if nobody had ever taken from it."""
        return (self.size.burst - self.remaining) * self.size.seconds_each


def headers(level: Level, now: float) -> dict[str, str]:
    """The contract's. `now` in Unix time; Reset is when the bucket is full again."""
    return {
        "RateLimit-Limit": str(level.size.an_hour),
        "RateLimit-Remaining": str(max(0, int(level.remaining))),
        "RateLimit-Reset": str(math.ceil(now + level.full_in)),
    }


def take(key: str, size: Size) -> Level:
    """Take one, if there is one."""
    with connection.cursor() as cursor:
        values: dict[str, str | float] = {
            "key": key,
            "burst": float(size.burst),
            "refill": size.an_hour / 3600,
        }
        cursor.execute(_TAKE, values)
        remaining, allowed = cursor.fetchone()
    return Level(size, remaining, allowed)


def give_back(key: str, size: Size) -> None:
    """What was taken should not count."""
    with connection.cursor() as cursor:
        cursor.execute(_GIVE_BACK, {"key": key, "burst": float(size.burst)})


def tidy() -> int:
    """Forget buckets that are full again by now, whatever their size: none takes a day."""
    old = Bucket.objects.filter(at__lt=timezone.now() - timedelta(days=1))
    return old.delete()[0]


# A clock that was set back neither fills nor empties a bucket.
_NOW = """least(%(burst)s, bucket.level
    + %(refill)s * greatest(0, extract(epoch FROM clock_timestamp() - bucket.at)))"""
_TAKE = f"""
    INSERT INTO cloud_bucket AS bucket (key, level, allowed, at)
    VALUES (%(key)s, %(burst)s - 1, TRUE, clock_timestamp())
    ON CONFLICT (key) DO UPDATE SET
        level = {_NOW} - CASE WHEN {_NOW} >= 1 THEN 1 ELSE 0 END,
        allowed = {_NOW} >= 1,
        at = clock_timestamp()
    RETURNING level, allowed
"""
_GIVE_BACK = """
    UPDATE cloud_bucket SET level = least(%(burst)s, level + 1) WHERE key = %(key)s
"""
