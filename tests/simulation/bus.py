"""The broker: it loses, doubles, delays and reorders, is away for a while, and forgets all."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from kombu.exceptions import OperationalError

from tests.simulation import actors
from tests.simulation.actors import Effects
from tests.simulation.clock import Clock

# As in cloud.broker.
REDELIVERIES = 5
DEAD = "dead"


@dataclass
class Weather:
    """How messages fare: probabilities, and how many seconds one may take at most."""

    lost: float = 0.0
    doubled: float = 0.0
    delay: float = 0.0


CALM = Weather()


@dataclass(eq=False)
class Message:
    number: int
    queue: str
    task: str
    document: dict[str, Any]
    sender: str
    due: float
    expires: float | None = None
    deliveries: int = 0
    dead: bool = False


@dataclass
class _Queue:
    messages: list[Message] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)


class Bus:
    def __init__(self, clock: Clock, effects: Effects, random: Random) -> None:
        self._clock, self._effects, self._random = clock, effects, random
        self._queues: dict[str, _Queue] = {}
        self._numbers = itertools.count()
        self.weather = CALM
        self.away = False

    def send_task(
        self,
        task: str,
        *,
        args: list[dict[str, Any]],
        exchange: str,
        routing_key: str,
        user_id: str = "",
        **_: Any,
    ) -> None:
        """As Celery's; raises OperationalError."""
        queue = "reports" if exchange == "reports" else routing_key
        self._effects.do(f"send {task}", self.send, queue, task, args[0], user_id)

    def send(
        self,
        queue: str,
        task: str,
        document: dict[str, Any],
        sender: str = "",
        seconds: float | None = None,
    ) -> None:
        """`seconds`: after which it is worthless."""
        if self.away:
            raise OperationalError("connection refused")
        now = self._clock.now
        expires = now + seconds if seconds else None
        copies = 0 if self._is_so(self.weather.lost) else 1
        copies += self._is_so(self.weather.doubled)
        for _ in range(copies):
            due = now + self._random.uniform(0, self.weather.delay)
            number = next(self._numbers)
            twin = copy.deepcopy(document)
            self._put(queue, Message(number, queue, task, twin, sender, due, expires))

    def purge(self) -> None:
        for queue in self._queues.values():
            queue.messages.clear()

    def return_(self) -> None:
        self.away = False
        for queue in self._queues.values():
            queue.came.set()

    @property
    def idle(self) -> bool:
        return not any(queue.messages for queue in self._queues.values())

    async def consume(self, *names: str) -> AsyncIterator[Message]:
        """Messages in the order in which they are due. One stays until the next is asked for: if
        its consumer is killed before, it is delivered again.
        """
        queues = [self._queue(name) for name in names]
        while True:
            message = self._due(queues)
            if message is None:
                await self._wait(queues)
                continue
            message.deliveries += 1
            message.due = float("inf")
            try:
                yield message
                self._effects.do(f"ack {message.task}", self._remove, message)
            finally:
                # Not taken away: whoever had it died.
                message.due = self._clock.now

    def take(self, name: str) -> Message | None:
        """One message that is due, for somebody who acknowledges at once."""
        queue = self._queue(name)
        message = self._due([queue])
        if message is not None:
            queue.messages.remove(message)
        return message

    def give_back(self, message: Message, queue: str) -> None:
        """Its consumer died."""
        message.due = self._clock.now
        if message not in self._queue(queue).messages:
            self._queue(queue).messages.append(message)

    def bury(self, names: tuple[str, ...]) -> None:
        """What was delivered too often goes where dead letters go."""
        for name in names:
            queue = self._queue(name)
            for message in [one for one in queue.messages if one.deliveries > REDELIVERIES]:
                queue.messages.remove(message)
                message.deliveries, message.dead = 0, True
                message.due = self._clock.now
                self._put(DEAD, message)

    def _queue(self, name: str) -> _Queue:
        return self._queues.setdefault(name, _Queue())

    def _put(self, name: str, message: Message) -> None:
        queue = self._queue(name)
        queue.messages.append(message)
        queue.came.set()

    def _remove(self, message: Message) -> None:
        for queue in self._queues.values():
            if message in queue.messages:
                queue.messages.remove(message)

    def _due(self, queues: list[_Queue]) -> Message | None:
        if self.away:
            return None
        now = self._clock.now
        for queue in queues:
            queue.messages = [
                one for one in queue.messages if one.expires is None or one.expires > now
            ]
        due = [one for queue in queues for one in queue.messages if one.due <= now]
        return min(due, key=lambda one: (one.due, one.number), default=None)

    async def _wait(self, queues: list[_Queue]) -> None:
        for queue in queues:
            queue.came.clear()
        waiting = [one.due for queue in queues for one in queue.messages]
        soonest = min((one for one in waiting if one != float("inf")), default=None)
        seconds = None
        if soonest is not None and not self.away:
            seconds = max(soonest - self._clock.now, 0.001)
        if len(queues) == 1:
            came = asyncio.ensure_future(queues[0].came.wait())
            await asyncio.wait([came], timeout=seconds)
            came.cancel()
            return
        coming = [asyncio.ensure_future(queue.came.wait()) for queue in queues]
        await asyncio.wait(coming, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for one in coming:
            one.cancel()

    def _is_so(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability


def sender() -> str:
    return f"host-{actors.machine().name}"
