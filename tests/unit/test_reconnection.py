"""After a long outage of the broker everybody is back soon."""

from __future__ import annotations

from typing import Any

import pytest

from cloud.reconnection import MOST_SECONDS, Insistent


def test_the_wait_between_two_attempts_stays_short(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr("kombu.connection.retry_over_time", lambda *args, **_: asked.append(args))
    Insistent("memory://").ensure_connection()
    start, step, most = asked[0][6:9]
    assert (start, step, most) == (2, 2, MOST_SECONDS)


def test_who_asks_for_another_wait_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr("kombu.connection.retry_over_time", lambda *args, **_: asked.append(args))
    Insistent("memory://").ensure_connection(interval_max=0)
    Insistent("memory://").ensure_connection(None, 1, 0, 0, 0, reraise_as_library_errors=False)
    assert [one[8] for one in asked] == [0, 0]
