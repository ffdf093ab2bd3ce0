"""An allowance lets a burst through and then so much a second, however long nobody came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloud.allowance import Allowance


def taken(allowance: Allowance, now: float, asked: int) -> int:
    return sum(allowance.take(now) for _ in range(asked))


def test_a_burst_is_let_through_and_no_more() -> None:
    assert taken(Allowance(rate=2, burst=10), now=100.0, asked=50) == 10


def test_what_was_spent_comes_back_with_time() -> None:
    allowance = Allowance(rate=2, burst=10)
    taken(allowance, now=100.0, asked=50)
    assert taken(allowance, now=101.5, asked=50) == 3


def test_a_long_rest_saves_no_more_than_a_burst() -> None:
    allowance = Allowance(rate=2, burst=10)
    allowance.take(100.0)
    assert taken(allowance, now=9999.0, asked=50) == 10


@given(st.lists(st.floats(min_value=0, max_value=0.2), min_size=1, max_size=400))
def test_whatever_the_rhythm_the_rate_holds(pauses: list[float]) -> None:
    allowance, now, admitted = Allowance(rate=10, burst=5), 0.0, 0
    for pause in pauses:
        now += pause
        admitted += allowance.take(now)
    assert admitted <= 5 + 10 * now + 1e-6
