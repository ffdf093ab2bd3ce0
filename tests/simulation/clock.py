"""Time that passes only when nothing else can happen, and an event loop that lives in it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any

# Some moment; rows and documents of the simulation are all of after it.
EPOCH = 1_900_000_000.0


class Standstill(Exception):
    """Everybody waits for somebody else, for ever."""


class Clock:
    """Whoever sleeps in a thread of the real program moves it on.

    What is counted are seconds since EPOCH: a Unix time has not the digits for a timer's rest.
    """

    def __init__(self) -> None:
        self.elapsed = 0.0

    @property
    def now(self) -> float:
        """Unix seconds."""
        return EPOCH + self.elapsed

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.elapsed

    def sleep(self, seconds: float) -> None:
        self.elapsed += max(seconds, 0.0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs blocking work at once, in the thread of the loop: so one order of events is one run."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        super().__init__(_Patience(clock))
        self.set_exception_handler(lambda loop, context: None)

    def time(self) -> float:
        return self._clock.monotonic()

    def run_in_executor(  # type: ignore[override]
        self, executor: object, work: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(work(*arguments))
        except BaseException as error:
            future.set_exception(error)
        return future


class _Patience(selectors.BaseSelector):
    """Sockets are heard of at once; else the clock moves on to whatever comes next."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._real = selectors.DefaultSelector()

    def register(self, *arguments: Any, **more: Any) -> selectors.SelectorKey:
        return self._real.register(*arguments, **more)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, *arguments: Any, **more: Any) -> selectors.SelectorKey:
        return self._real.modify(*arguments, **more)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if not ready:
            if timeout is None:
                raise Standstill
            self._clock.sleep(timeout)
        return ready

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()
