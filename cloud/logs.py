"""One log format for every process of the cloud: JSON, which `trace` can search, or columns for
people at a terminal.

Standard library loggers and structlog end in the same handler, so a library's line looks like
ours and carries the same context: the request id, and whatever else was `bound` (action_id, vm,
task, step). Pure of Django: the agent and the monitor use it too.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars
from structlog.typing import EventDict, WrappedLogger

from cloud import requestid, telemetry

# The order in which fields are written; what is not named here follows.
FIELDS = (
    *("time", "level", "service", "host", "event", "request_id"),
    *("action_id", "vm", "task", "step", "duration"),
)
# What the standard library's loggers may add by `extra`; Celery's extras hold arguments of tasks.
_EXTRAS = {"program", "code", "duration", "stderr"}

_SECRETS = (
    (re.compile(r"(://[^\s/:@]+:)[^\s/@]+@"), r"\1***@"),  # a password in a URL
    (re.compile(r"(Bearer )\S+"), r"\1***"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END|\Z)", re.S), "(private key)"),
    (re.compile(r"\$(2[aby]|5|6|y)\$[./A-Za-z0-9$=,]{10,}"), "(password hash)"),
    # PostgreSQL quotes whole rows in its complaints.
    (re.compile(r"(Failing row contains |Key \([^)]*\)=)\(.*?\)(?=[\s.]|\Z)", re.S), r"\1(***)"),
)
# Any of these words must be there before a pattern can match: a quick look at every line.
_HINTS = ("://", "Bearer ", "PRIVATE KEY", "$2", "$5$", "$6$", "$y$", "Failing row", "Key (")


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Every line written inside carries these fields; a None is left out."""
    with bound_contextvars(**{name: value for name, value in fields.items() if value is not None}):
        yield


def logging_config(
    format: str | None, level: str = "INFO", *, service: str = "", host: str = ""
) -> None:
    """Send all logging of this process to standard error.

    `format`: json or text; None: text if that is a terminal, and JSON wherever lines are kept.
    `service` is which program of the cloud this is, `host` the host it works for.
    """
    shared = _processors({"service": service, "host": host})
    last = (
        structlog.processors.JSONRenderer()
        if (format or ("text" if sys.stderr.isatty() else "json")) == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), timestamp_key="time")
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(_EXTRAS), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in (
        "httpx",
        "httpcore",
        "amqp",
        "pyroute2",
        "celery.beat",
        "celery.app.trace",
        "celery.worker.strategy",
    ):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        cache_logger_on_first_use=True,
    )
    telemetry.start(service, host)


def without_secrets(text: str) -> str:
    """The text without passwords, tokens and keys: libraries quote what they choke on."""
    if any(hint in text for hint in _HINTS):
        for pattern, replacement in _SECRETS:
            text = pattern.sub(replacement, text)
    return text


def _processors(constants: dict[str, str]) -> list[Any]:
    known = {name: value for name, value in constants.items() if value}

    def add_context(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """What is true of the whole process, and the request that is being served."""
        for name, value in known.items():
            event.setdefault(name, value)
        if request_id := requestid.current():
            event.setdefault(requestid.HEADER, request_id)
            if telemetry.enabled():
                event.setdefault("trace_id", telemetry.trace_id_of(request_id))
        return event

    return [
        structlog.contextvars.merge_contextvars,
        add_context,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _tidy,
    ]


def _tidy(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Known fields first, in their order; no secret in any text."""
    first = {name: event.pop(name) for name in FIELDS if name in event}
    return {
        name: without_secrets(value) if isinstance(value, str) else value
        for name, value in (*first.items(), *event.items())
    }
