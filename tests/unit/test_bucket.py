"""A bucket lets a burst through and then so much a second, however long nobody came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloud.bucket import Bucket


def taken(bucket: Bucket, now: float, asked: int) -> int:
    return sum(bucket.take(now) for _ in range(asked))


def test_a_burst_is_let_through_and_no_more() -> None:
    assert taken(Bucket(rate=2, burst=10), now=100.0, asked=50) == 10


def test_what_was_spent_comes_back_with_time() -> None:
    bucket = Bucket(rate=2, burst=10)
    taken(bucket, now=100.0, asked=50)
    assert taken(bucket, now=101.5, asked=50) == 3


def test_a_long_rest_saves_no_more_than_a_burst() -> None:
    bucket = Bucket(rate=2, burst=10)
    bucket.take(100.0)
    assert taken(bucket, now=9999.0, asked=50) == 10


@given(st.lists(st.floats(min_value=0, max_value=0.2), min_size=1, max_size=400))
def test_whatever_the_rhythm_the_rate_holds(pauses: list[float]) -> None:
    bucket, now, admitted = Bucket(rate=10, burst=5), 0.0, 0
    for pause in pauses:
        now += pause
        admitted += bucket.take(now)
    assert admitted <= 5 + 10 * now + 1e-6
