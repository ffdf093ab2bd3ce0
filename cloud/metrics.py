"""What the control plane counts as it happens: every counter and histogram in one table.

Web, worker and beat each count in files below PROMETHEUS_MULTIPROC_DIR, so that the web server
can answer for all of them (`cloud.scrape`). Without that variable, as in tests and management
commands, a process counts for itself. Facts of the database are not counted but read at the
scrape: `vms.gauges`.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

# When each series began is of no use to anybody and doubles their number.
disable_created_metrics()  # type: ignore[no-untyped-call]

# Not the library's own registry: Flower exports that one, too.
REGISTRY = CollectorRegistry()

_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_STEP_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})

HTTP_REQUESTS = Counter(
    "cumulet_http_requests_total",
    "Web requests by URL pattern and class of status.",
    ["method", "route", "status"],
    registry=REGISTRY,
)
HTTP_SECONDS = Histogram(
    "cumulet_http_request_seconds",
    "How long web requests took.",
    ["method", "route"],
    buckets=_REQUEST_SECONDS,
    registry=REGISTRY,
)
ACTIONS = Counter(
    "cumulet_actions_total",
    "Actions that ended, by command and result (success or error).",
    ["command", "result"],
    registry=REGISTRY,
)
STEP_SECONDS = Histogram(
    "cumulet_step_seconds",
    "How long the steps of hosts took.",
    ["step"],
    buckets=_STEP_SECONDS,
    registry=REGISTRY,
)
TASKS = Counter(
    "cumulet_tasks_total",
    "Tasks that control's worker has run, by name and state.",
    ["task", "state"],
    registry=REGISTRY,
)
CLOSED_LANES = Counter(
    "cumulet_closed_lanes_total",
    "Moments in which a host was not listened to, because it sent too many reports.",
    registry=REGISTRY,
)
LOGINS = Counter(
    "cumulet_logins_total",
    "Tries to log in to the admin, by result (success, failed, or refused: too many of them).",
    ["result"],
    registry=REGISTRY,
)
REFUSED_MESSAGES = Counter(
    "cumulet_messages_refused_total",
    "Messages to control that were dropped unread, by reason: see cloud/admission.py.",
    ["reason"],
    registry=REGISTRY,
)
DEAD_LETTERS = Counter(
    "cumulet_dead_letters_total",
    "Messages that nobody could take, by kind of queue (host, reports, control) and reason.",
    ["queue", "reason"],
    registry=REGISTRY,
)


def observe_request(method: str, route: str | None, status: int, seconds: float) -> None:
    """`route`: the URL pattern, never the path, or a scanner could invent series without end."""
    method = method if method in _METHODS else "other"
    route = "(none)" if route is None else f"/{route}"
    HTTP_REQUESTS.labels(method, route, f"{status // 100}xx").inc()
    HTTP_SECONDS.labels(method, route).observe(seconds)


def observe_step(name: str, seconds: float) -> None:
    """A host finished a step; `name` is a `cloud.wire.StepName`."""
    STEP_SECONDS.labels(name).observe(seconds)


def counted() -> Collector:
    """Everything counted so far, by all processes that share the directory."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        return MultiProcessCollector(None)  # type: ignore[no-untyped-call]
    return REGISTRY
