"""What the host tells control of itself: that it lives, and that all else is as it was told.

Heartbeats have a thread of their own. The others may all be at guests that start, as after a
reboot of the host, and a host that waits for one of those would count as silent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

import structlog
from msgspec import structs

from cloud import requestid
from cloud.errors import CumuletError
from cloud.hostconfig import HEARTBEAT_SECONDS
from vms.host import facts
from vms.host.converge import told
from vms.host.documents import DamagedStore
from vms.host.host import Host
from vms.host.leftovers import Leftovers
from vms.host.outbox import Outbox
from vms.spec import (
    MOST_PROBLEMS,
    PROBLEM_LENGTH,
    HostReport,
    Problem,
    SeenNetwork,
    UnchangedReport,
)

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

# Is called after each heartbeat that the broker took: True after one that it did not take.
Heard = Callable[[bool], None]


class Reporter:
    """`unreadable`: VMs whose documents are damaged, as whoever looks at them keeps it."""

    def __init__(
        self,
        host: Host,
        outbox: Outbox,
        leftovers: Leftovers,
        unreadable: Mapping[int, DamagedStore],
    ) -> None:
        self._host = host
        self._outbox = outbox
        self._leftovers = leftovers
        self._unreadable = unreadable
        self._thread = ThreadPoolExecutor(1, "heartbeat")
        self.heard_at = time.monotonic()

    async def beat(self, heard: Heard) -> None:
        """A heartbeat every few seconds, until it is cancelled."""
        away = False
        while True:
            if report := await self._host_report():
                with requestid.bound(requestid.fresh()):
                    sent = await self._apart(partial(self._outbox.host, report))
                if sent:
                    self.heard_at = time.monotonic()
                    heard(away)
                away = not sent
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def unchanged(self, seen: Iterable[int], networks: Sequence[SeenNetwork]) -> None:
        """One report for all of these VMs and networks: they are as they were told."""
        with requestid.bound(requestid.fresh()):
            await asyncio.to_thread(self._tell_unchanged, seen, networks)

    def _tell_unchanged(self, seen: Iterable[int], networks: Sequence[SeenNetwork]) -> None:
        vms = tuple(vm for vm in map(partial(told, self._host), seen) if vm)
        if vms or networks:
            self._outbox.unchanged(UnchangedReport(self._host.uuid, vms, tuple(networks)))

    def close(self) -> None:
        """Waits for the heartbeat that is under way: nothing is written once the monitor ended."""
        self._thread.shutdown()

    async def _host_report(self) -> HostReport | None:
        try:
            report = await self._apart(partial(facts.host_report, self._host))
            problems = (*report.problems, *map(_problem, self._unreadable.values()))
            told = {"leftovers": self._leftovers.told, "problems": problems[:MOST_PROBLEMS]}
            return structs.replace(report, **told)
        except (CumuletError, OSError):
            log.exception("no heartbeat")
            return None

    async def _apart(self, work: Callable[[], Answer]) -> Answer:
        """As `asyncio.to_thread`, where nobody else is in the way."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, copy_context().run, work)


def _problem(error: DamagedStore) -> Problem:
    return Problem(error.code, error.message[:PROBLEM_LENGTH])
