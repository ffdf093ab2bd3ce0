"""How much went over the host's interfaces, as the kernel counts it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

# Of the calling thread's network namespace; proc(5) and Documentation/networking/statistics.rst.
_COUNTERS = Path("/proc/thread-self/net/dev")
_RECEIVED_PACKETS = 1


def frames_from(names: Iterable[str]) -> int:
    """Frames that guests have sent into these TAPs since they were made."""
    wanted = set(names)
    lines = (line.partition(":") for line in _COUNTERS.read_text().splitlines())
    return sum(
        int(counts.split()[_RECEIVED_PACKETS])
        for name, colon, counts in lines
        if colon and name.strip() in wanted
    )
