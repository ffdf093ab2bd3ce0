"""The bucket of requests that each project has."""

from __future__ import annotations

from cloud.api.throttling import Buckets, Rate


def test_an_empty_bucket_refuses_until_it_is_refilled() -> None:
    buckets = Buckets()
    assert [buckets.take(1, 3, now=0.0).allowed for _ in range(4)] == [True, True, True, False]
    assert not buckets.take(1, 3, now=1199.0).allowed
    assert buckets.take(1, 3, now=1200.0).allowed


def test_projects_do_not_share_a_bucket() -> None:
    buckets = Buckets()
    assert buckets.take(1, 1, now=0.0).allowed
    assert not buckets.take(1, 1, now=0.0).allowed
    assert buckets.take(2, 1, now=0.0).allowed


def test_a_bucket_never_holds_more_than_an_hour() -> None:
    buckets = Buckets()
    buckets.take(1, 10, now=0.0)
    assert buckets.take(1, 10, now=10_000_000.0).remaining == 9


def test_headers_say_what_is_left_and_when_all_is_back() -> None:
    rate = Rate(limit=3600, remaining=3590.5)
    assert rate.headers(now=1000.0) == {
        "RateLimit-Limit": "3600",
        "RateLimit-Remaining": "3590",
        "RateLimit-Reset": "1010",
    }


def test_a_refused_caller_is_told_how_long_to_wait() -> None:
    assert Rate(limit=3600, remaining=0.25, allowed=False).wait == 0.75
