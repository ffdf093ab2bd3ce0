"""The control plane: its worker, beat, and the requests of users, on a real PostgreSQL.

All of it runs in one transaction of the test, in which each outermost `atomic` of the code is a
savepoint that stands for a transaction: at its end constraints are checked and what waits for the
commit is done, with a place to be killed before, between and after.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from cloud import poison, requestid
from cloud.broker import HOSTS_EXCHANGE
from cloud.deadqueue import DeadMessage
from cloud.wire import MalformedDocument, Refusal, convert, decode
from networks.spec import NetworkReport
from tests.simulation import actors
from tests.simulation.actors import Actor, Effects, Killed
from tests.simulation.bus import DEAD, REDELIVERIES, Message
from vms import dead_letters, reconcile, refusals, reports, unchanged, usage
from vms.drift.record import host_inventory
from vms.drift.spec import HostInventory
from vms.private.reports import network_report
from vms.spec import HostReport, ImageReport, UnchangedReport, UsageReport, VmReport

if TYPE_CHECKING:
    from tests.simulation.world import World

QUEUES = ("reports", "control", DEAD)
RESTART_SECONDS = 1.0
_CHECK = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED"

_REPORTS: dict[str, tuple[Any, Callable[[Any, str], None]]] = {
    "reports.vm": (VmReport, lambda *said: reports.vm_report(*said)),
    "reports.host": (HostReport, lambda *said: reports.host_report(*said)),
    "reports.image": (ImageReport, lambda *said: reports.image_report(*said)),
    "reports.usage": (UsageReport, lambda *said: usage.usage_report(*said)),
    "reports.unchanged": (
        UnchangedReport,
        lambda *said: unchanged.unchanged_report(*said),
    ),
    "reports.inventory": (HostInventory, lambda *said: host_inventory(*said)),
    "reports.network": (NetworkReport, lambda *said: network_report(*said)),
}


class Control:
    """`interleave`: how likely another worker has a turn between two transactions of one task."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.interleave = 0.0
        self._nested = False
        self.actor: Actor | None = None

    def start(self) -> None:
        self.actor = self._worker()
        self._start_beat()

    def kill(self) -> None:
        if self.actor is not None:
            self.actor.die()

    def _worker(self) -> Actor:
        actor = Actor("control")
        actor.ended = lambda: self._world.later(RESTART_SECONDS, self._again)
        actors.start(actor, self._work(actor))
        return actor

    def _again(self) -> None:
        self._world.bus.bury(QUEUES)
        self.actor = self._worker()

    def _start_beat(self) -> None:
        beat = Actor("beat")
        beat.ended = lambda: self._world.later(RESTART_SECONDS, self._start_beat)
        actors.start(beat, self._beat())

    async def _beat(self) -> None:
        while True:
            # `cloud.beat` does so by itself, with or without a broker.
            reconcile.watch(timezone.now())
            try:
                self._world.effects.do("send control.sweep", self._send_sweep)
            except Killed:
                raise
            except Exception:
                pass
            await asyncio.sleep(settings.SWEEP_SECONDS)

    def _send_sweep(self) -> None:
        self._world.bus.send("control", "control.sweep", {}, seconds=settings.SWEEP_SECONDS)

    async def _work(self, actor: Actor) -> None:
        messages = self._world.bus.consume(*QUEUES)
        try:
            async for message in messages:
                self._handle(message)
        finally:
            await messages.aclose()

    def _handle(self, message: Message) -> None:
        """What goes wrong in a task is logged, and its message is done with."""
        try:
            with requestid.bound(requestid.fresh()):
                handle(message)
        except Killed:
            raise
        except MalformedDocument as error:
            self._world.complain(f"control could not read {message.task}: {error.message}")
        except Exception as error:
            self._world.complain(f"control failed at {message.task}: {error!r}")

    def between(self) -> None:
        """Two transactions of a task have an end and a beginning: somebody else may be quicker."""
        world = self._world
        if self._nested or not self.interleave or actors.current() is not self.actor:
            return
        if world.random.random() >= self.interleave:
            return
        message = world.bus.take("reports")
        if message is None:
            return
        self._nested = True
        try:
            with actors.acting_as(Actor("control-2")):
                self._handle(message)
        except Killed:
            world.bus.give_back(message, "reports")
        finally:
            self._nested = False


def handle(message: Message) -> None:
    """As `vms.tasks`."""
    if message.dead:
        dead_letters.keep(_dead(message))
    elif message.task == "control.sweep":
        reconcile.sweep()
    elif message.task == "reports.refused":
        refusals.refused(convert(message.document, Refusal), message.sender)
    else:
        kind, act = _REPORTS[message.task]
        act(decode(message.document, kind), message.sender)


def _dead(message: Message) -> DeadMessage:
    """As the broker hands over what was delivered too often."""
    body = json.dumps([[message.document], {}, {}]).encode()
    headers = {"task": message.task, "id": str(message.number)}
    return DeadMessage(
        message=poison.Message(
            body, "application/json", "utf-8", headers, HOSTS_EXCHANGE, message.sender
        ),
        queue=message.queue,
        reason="delivery_limit",
        deliveries=REDELIVERIES,
        raised="",
    )


@contextmanager
def transactions(effects: Effects, between: Callable[[], None]) -> Iterator[None]:
    """Make savepoints on this depth the transactions of whoever acts."""
    depth = len(connection.savepoint_ids)
    enter, leave = transaction.Atomic.__enter__, transaction.Atomic.__exit__

    def enter_(self: Any) -> None:
        if len(connection.savepoint_ids) == depth and actors.current() is not None:
            self.savepoint = True  # a transaction of its own, where the code would begin one
        enter(self)

    def exit_(self: Any, kind: Any, error: Any, trace: Any) -> Any:
        if len(connection.savepoint_ids) != depth + 1 or actors.current() is None:
            return leave(self, kind, error, trace)
        if kind is not None:
            return leave(self, kind, error, trace)
        actor = actors.current()
        assert actor is not None
        try:
            number = effects.before(actor, "commit")
            with connection.cursor() as cursor:
                cursor.execute(_CHECK)
        except BaseException as error_:
            leave(self, type(error_), error_, error_.__traceback__)
            raise
        leave(self, None, None, None)
        waiting, connection.run_on_commit = connection.run_on_commit, []
        effects.after(number, actor, "commit")
        for _, act, *_ in waiting:
            act()
        between()
        return None

    transaction.Atomic.__enter__ = enter_  # type: ignore[method-assign]
    transaction.Atomic.__exit__ = exit_  # type: ignore[method-assign]
    try:
        yield
    finally:
        transaction.Atomic.__enter__ = enter  # type: ignore[method-assign]
        transaction.Atomic.__exit__ = leave  # type: ignore[method-assign]
        connection.run_on_commit = []
