"""Tests of the control flow on a real PostgreSQL; `broker` gives a real RabbitMQ too."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import pytest
from django.db import connections

T = TypeVar("T")


@pytest.fixture
def parallel() -> Callable[..., list[T | Exception]]:
    """Run `work(0..n-1)` at the same moment, each on its own connection; errors are results.

    With `at_once`, so many begin together and the others follow as soon as one has ended.
    """

    def run(work: Callable[[int], T], count: int, at_once: int = 0) -> list[T | Exception]:
        width = at_once or count
        together = Barrier(width)

        def one(number: int) -> T | Exception:
            if number < width:
                together.wait(timeout=10)
            try:
                return work(number)
            except Exception as error:
                return error
            finally:
                connections.close_all()

        with ThreadPoolExecutor(width) as threads:
            return list(threads.map(one, range(count)))

    return run
