"""Samples of one measurement in a few numbers. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """Seconds (or whatever the samples are in). Half of all samples lie within low to high."""

    median: float
    low: float
    high: float
    least: float
    most: float
    count: int


def summarise(samples: Sequence[float]) -> Summary:
    """Raises ValueError if there is no sample."""
    return Summary(
        median=percentile(samples, 50),
        low=percentile(samples, 25),
        high=percentile(samples, 75),
        least=min(samples),
        most=max(samples),
        count=len(samples),
    )


def percentile(samples: Sequence[float], percent: float) -> float:
    """By linear interpolation between the two nearest samples; raises ValueError."""
    if not samples or not 0 <= percent <= 100:
        raise ValueError(f"no percentile {percent} of {len(samples)} samples")
    ordered = sorted(samples)
    position = (len(ordered) - 1) * percent / 100
    below, above = math.floor(position), math.ceil(position)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
