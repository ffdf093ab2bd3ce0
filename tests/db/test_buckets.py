"""Buckets hold across processes: whatever runs at once, no more is granted than there is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone

from cloud import buckets
from cloud.buckets import Bucket, Level, Size, take
from tests import factories as make
from vms import reconcile

pytestmark = [pytest.mark.django_db, pytest.mark.faults]
SIZE = Size(burst=3, an_hour=3)


def later(**time: float) -> None:
    """As if the last one had asked so long ago."""
    Bucket.objects.update(at=F("at") - timedelta(**time))


def test_an_empty_bucket_refuses_until_it_is_refilled() -> None:
    assert [take("a", SIZE).allowed for _ in range(4)] == [True, True, True, False]
    later(seconds=1190)
    assert not take("a", SIZE).allowed
    later(seconds=20)
    assert take("a", SIZE).allowed
    assert not take("a", SIZE).allowed


def test_to_ask_in_vain_costs_nothing() -> None:
    for _ in range(3):
        take("a", SIZE)
    waits = [take("a", SIZE).wait for _ in range(5)]
    assert all(1190 < wait <= 1200 for wait in waits)


def test_nobody_takes_from_the_bucket_of_another_one() -> None:
    for _ in range(4):
        take("a", SIZE)
    assert take("b", SIZE).allowed


def test_a_bucket_never_holds_more_than_it_can() -> None:
    take("a", SIZE)
    later(days=400)
    assert take("a", SIZE).remaining == 2


def test_a_clock_that_was_set_back_empties_nothing() -> None:
    take("a", SIZE)
    later(hours=-1)
    assert take("a", SIZE).remaining == pytest.approx(1)


def test_what_is_given_back_can_be_taken_again_and_not_more_than_that() -> None:
    for _ in range(3):
        take("a", SIZE)
    buckets.give_back("a", SIZE)
    assert [take("a", SIZE).allowed for _ in range(2)] == [True, False]
    for _ in range(9):
        buckets.give_back("a", SIZE)
    assert take("a", SIZE).remaining == pytest.approx(2, abs=0.01)


@pytest.mark.django_db(transaction=True)
def test_twenty_at_the_same_moment_get_no_more_than_there_is(
    parallel: Callable[..., list[Any]],
) -> None:
    levels: list[Level] = parallel(lambda _: take("a", Size(burst=5, an_hour=5)), 20)
    assert sorted(level.allowed for level in levels) == [False] * 15 + [True] * 5


def test_what_nobody_asked_for_in_a_day_is_forgotten() -> None:
    make.host()
    take("old", SIZE)
    later(days=2)
    take("new", SIZE)
    reconcile.tidy(timezone.now())
    assert list(Bucket.objects.values_list("key", flat=True)) == ["new"]
