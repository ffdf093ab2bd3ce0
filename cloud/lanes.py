"""How a worker serves the hosts' reports: all lanes in turns, and nobody's without end.

Each host's reports wait in a queue of its own, and the broker hands a worker a few of each at a
time: a host that floods its lane waits in it alone. One that says more than any honest host has to
say is not listened to for a moment: its lane is closed until the next sweep, which opens every lane
that is not open. So new hosts are heard too, and a flood costs next to nothing, whatever is in it:
messages are counted as they come (`cloud.doorkeeper`), before anybody looks at them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

import structlog

from cloud.allowance import Allowance
from cloud.broker import lane, lane_queue
from cloud.metrics import CLOSED_LANES

log = structlog.get_logger(__name__)

# Reports a second that a host may send for long, and at once: after an absence of the broker each
# of its servers is told of anew.
RATE, BURST = 50.0, 1000.0


class Lanes:
    """Those that one worker serves. Called from any of its threads; the consumer's own one does
    what it is asked for a moment later."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._allowances: dict[str, Allowance] = {}
        self._lock = threading.Lock()

    def serve(self, hosts: Iterable[str]) -> None:
        """Open those lanes that are not."""
        served = self._consumer.app.amqp.queues.consume_from
        for host in hosts:
            if lane(host) not in served:
                self._consumer.call_soon(self._open, host)

    def heard(self, host: str) -> bool:
        """Count a message of the host, and close its lane if it is one too many: then False."""
        with self._lock:
            allowance = self._allowances.setdefault(host, Allowance(RATE, BURST))
            admitted = allowance.take(time.monotonic())
        if not admitted and lane(host) in self._consumer.app.amqp.queues.consume_from:
            self._consumer.call_soon(self._close, host)
        return admitted

    def _open(self, host: str) -> None:
        queue = lane_queue(host)
        self._consumer.app.amqp.queues.select_add(queue)
        self._consumer.add_task_queue(queue.name)

    def _close(self, host: str) -> None:
        if lane(host) in self._consumer.app.amqp.queues.consume_from:
            log.warning("host talks too much, not listened to until the next sweep", host=host)
            CLOSED_LANES.inc()
            self._consumer.cancel_task_queue(lane(host))


_lanes: Lanes | None = None


def attach(consumer: Any) -> None:
    """This process is a worker, and this is its consumer."""
    global _lanes
    _lanes = Lanes(consumer)


def serve(hosts: Iterable[str]) -> None:
    """Like `Lanes.serve`; nothing outside of a worker."""
    if _lanes:
        _lanes.serve(hosts)


def heard(host: str) -> bool:
    """Like `Lanes.heard`; nothing outside of a worker. "": all that say not who they are."""
    return _lanes.heard(host) if _lanes else True
