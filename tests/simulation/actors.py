"""Programs that can be killed, and everything they do to the world, numbered.

A killed program unwinds by an exception that nobody catches, and nothing that it still tries has
an effect: neither `finally` nor `except BaseException` of the real code does what a dead process
could not do.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.machine import Machine


class Killed(BaseException):
    """The program was killed at this point."""


@dataclass(eq=False)
class Actor:
    """One process of the cloud; `machine` is None for those of control."""

    name: str
    machine: Machine | None = None
    dead: bool = False
    tasks: weakref.WeakSet[asyncio.Task[Any]] = field(default_factory=weakref.WeakSet)
    ended: Callable[[], None] = lambda: None
    failed: Callable[[BaseException], None] = lambda error: None

    def die(self) -> None:
        """All that it had under way ends; `ended` tells whoever starts it again."""
        if not self.dead:
            self.dead = True
            asyncio.get_running_loop().call_soon(self._unwind)

    def _unwind(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        self.ended()


_current: ContextVar[Actor | None] = ContextVar("actor", default=None)
# What one effect consists of is none of its own.
_within: ContextVar[bool] = ContextVar("within", default=False)


def current() -> Actor | None:
    return _current.get()


def machine() -> Machine:
    """The machine of whoever acts."""
    actor = _current.get()
    assert actor is not None, "only programs ask"
    assert actor.machine is not None, "only programs of hosts ask"
    return actor.machine


@contextmanager
def acting_as(actor: Actor | None) -> Iterator[None]:
    token = _current.set(actor)
    try:
        yield
    finally:
        _current.reset(token)


def start(actor: Actor, work: Coroutine[Any, Any, None]) -> None:
    """Run it as this program."""
    token = _within.set(False)
    with acting_as(actor):
        asyncio.get_running_loop().create_task(_run(actor, work))
    _within.reset(token)


async def _run(actor: Actor, work: Coroutine[Any, Any, None]) -> None:
    """What ends by an error of its own is told of, and started again like what was killed."""
    try:
        await work
    except (Killed, asyncio.CancelledError):
        return
    except BaseExceptionGroup as group:
        rest = group.split((Killed, asyncio.CancelledError))[1]
        if rest is not None and not actor.dead:
            actor.failed(rest)
            actor.die()
    except Exception as error:
        actor.failed(error)
        actor.die()


def task_factory(loop: Any, work: Any, **more: Any) -> asyncio.Task[Any]:
    """Every task belongs to the program that made it."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **more)
    actor = _current.get()
    if actor is not None:
        actor.tasks.add(task)
    return task


class Judge(Protocol):
    """Decides over life and death: number of the effect, who acts, what, and at which edge."""

    def __call__(self, number: int, actor: Actor, what: str, after: bool) -> bool: ...


def merciful(number: int, actor: Actor, what: str, after: bool) -> bool:
    return False


class Effects:
    """Counts what programs do, from the moment that `begin` is called."""

    def __init__(self) -> None:
        self.judge: Judge = merciful
        self.trace: list[tuple[str, str]] = []
        self.counting = False
        self.kills: list[tuple[int, str, str]] = []

    def begin(self, judge: Judge) -> None:
        self.judge, self.trace, self.counting = judge, [], True

    def stop(self) -> None:
        self.counting = False

    def do(self, what: str, act: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """One effect of whoever acts; without anybody it is the world's own."""
        actor = _current.get()
        if actor is None:
            return act(*arguments, **more)
        if _within.get():
            return act(*arguments, **more)
        number = self.before(actor, what)
        token = _within.set(True)
        try:
            result = act(*arguments, **more)
        finally:
            _within.reset(token)
        self.after(number, actor, what)
        return result

    def before(self, actor: Actor, what: str) -> int:
        if actor.dead:
            raise Killed
        if not self.counting:
            return -1
        self.trace.append((actor.name, what))
        number = len(self.trace) - 1
        if self.judge(number, actor, what, False):
            self._kill(number, actor, f"before {what}")
        return number

    def after(self, number: int, actor: Actor, what: str) -> None:
        if number >= 0 and self.counting and self.judge(number, actor, what, True):
            self._kill(number, actor, f"after {what}")

    def _kill(self, number: int, actor: Actor, what: str) -> None:
        self.kills.append((number, actor.name, what))
        actor.die()
        raise Killed
