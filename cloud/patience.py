"""When something is sent again that a host did not confirm; the times live in rows. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

# The hint that leaves on commit has this long before the sweep sends another one.
HINT_PATIENCE: Final = timedelta(seconds=5)
LONGEST: Final = timedelta(minutes=1)


def backoff(attempts: int) -> timedelta:
    """5 s, doubled with each attempt, at most a minute."""
    return min(LONGEST, timedelta(seconds=5 * 2 ** min(attempts - 1, 4)))
