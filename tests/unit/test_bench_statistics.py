"""deploy.benchmarks.statistics: samples in a few numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.benchmarks.statistics import percentile, summarise

seconds = st.floats(min_value=0, max_value=1e6, allow_nan=False)


def test_the_median_of_an_odd_number_of_samples_is_the_middle_one() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0


def test_the_median_of_an_even_number_of_samples_lies_between_the_middle_two() -> None:
    assert percentile([4.0, 1.0, 2.0, 3.0], 50) == 2.5


def test_percentiles_between_samples_are_interpolated() -> None:
    assert percentile([10.0, 20.0, 30.0, 40.0, 50.0], 90) == pytest.approx(46.0)


@pytest.mark.parametrize(("samples", "percent"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_a_percentile_of_nothing_is_refused(samples: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile(samples, percent)


def test_one_slow_round_does_not_move_the_median() -> None:
    assert summarise([0.1, 0.1, 0.1, 0.1, 9.0]).median == 0.1


@given(st.lists(seconds, min_size=1))
def test_a_summary_is_in_order(samples: list[float]) -> None:
    seen = summarise(samples)
    assert seen.least <= seen.low <= seen.median <= seen.high <= seen.most
    assert seen.count == len(samples)
