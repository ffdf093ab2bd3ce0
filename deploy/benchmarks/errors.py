"""What can go wrong in a benchmark. A missed target is a result, not an error."""

from __future__ import annotations

from typing import ClassVar

from cloud.errors import CumuletError


class BenchmarkFailed(CumuletError):
    """Something that was to be measured did not happen."""

    code: ClassVar[str] = "benchmark_failed"
