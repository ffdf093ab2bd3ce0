"""What a caller is told about its bucket of requests."""

from __future__ import annotations

from cloud.buckets import Level, Size, headers

HOURLY = Size(3600, 3600)


def test_headers_say_what_is_left_and_when_all_is_back() -> None:
    assert headers(Level(HOURLY, remaining=3590.5), now=1000.0) == {
        "RateLimit-Limit": "3600",
        "RateLimit-Remaining": "3590",
        "RateLimit-Reset": "1010",
    }


def test_a_refused_caller_is_told_how_long_to_wait() -> None:
    assert Level(HOURLY, remaining=0.25, allowed=False).wait == 0.75
    assert Level(HOURLY, remaining=1.5).wait == 0


def test_a_small_bucket_that_fills_slowly_is_full_again_later() -> None:
    level = Level(Size(burst=5, an_hour=20), remaining=0.0, allowed=False)
    assert (level.wait, level.full_in) == (180.0, 900.0)
