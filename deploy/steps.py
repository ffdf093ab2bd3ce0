"""Says what a deploy command is doing, with the seconds since it began.

A line for every step that ended; on a terminal the running ones show below with their own
clock, elsewhere a line now and then says that a long one is still at work. Thread-safe: steps
run side by side.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_REMIND_SECONDS = 20.0


class Steps:
    """Progress of one command; use as a context manager."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.began = float(os.environ.get("CUMULET_STARTED") or time.time())
        self._live = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Steps:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @property
    def elapsed(self) -> float:
        """Seconds since the command was typed."""
        return time.time() - self.began

    def say(self, text: str) -> None:
        self.console.print(f"[dim]{self.elapsed:4.0f} s[/dim]  {text}")

    @contextmanager
    def step(self, title: str) -> Iterator[Detail]:
        """One piece of work; prints what came of it, or that it failed and after how long."""
        detail = Detail(self, title)
        row = self._live.add_task(title, total=None)
        detail.remind()
        began = time.monotonic()
        try:
            yield detail
        except BaseException:
            self.say(f"[red]failed:[/red] {title}")
            raise
        finally:
            detail.stop()
            self._live.remove_task(row)
        took = time.monotonic() - began
        self.say(f"{title}{detail.result}" + (f" [dim]({took:.1f} s)[/dim]" if took > 1 else ""))


class Detail:
    """What a running step has to say beside its title."""

    def __init__(self, steps: Steps, title: str) -> None:
        self._steps = steps
        self._title = title
        self._now = ""
        self._timer: threading.Timer | None = None
        self.result = ""

    def progress(self, text: str) -> None:
        self._now = f", {text}"

    def remind(self) -> None:
        self._timer = threading.Timer(_REMIND_SECONDS, self._still)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _still(self) -> None:
        if not self._steps.console.is_terminal:
            self._steps.say(f"[dim]still: {self._title}{self._now}[/dim]")
        self.remind()
