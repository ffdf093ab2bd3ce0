"""The one id of a request, in every log line, message header, Action and answer it causes.

Taken from the caller if it sent a usable one, else made here. Pure: web, control and hosts share
it, each binding the id at its own door (middleware, message headers, stored documents).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

# In the order in which they are asked; the first that is there decides.
HEADERS = ("X-Request-ID", "X-Correlation-ID", "X-Amzn-Trace-Id")
MAX_LENGTH = 128
# The header of AMQP messages that carries it on.
HEADER = "request_id"
PATTERN = rf"^[A-Za-z0-9._:=;/+-]{{1,{MAX_LENGTH}}}\Z"

_USABLE = re.compile(PATTERN)
_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def current() -> str | None:
    """The id of what is being done; None outside of every request, task and look at a VM."""
    return _current.get()


@contextmanager
def bound(request_id: str) -> Iterator[None]:
    """Everything inside belongs to this request."""
    token = _current.set(request_id)
    try:
        yield
    finally:
        _current.reset(token)


def fresh() -> str:
    """An id for what nobody asked for by a request of their own: a UUID4."""
    return str(uuid.uuid4())


def now() -> str:
    """The current id, or a fresh one."""
    return current() or fresh()


def take(headers: Mapping[str, str]) -> str:
    """The id that the caller sent, or a fresh one if it sent none or one that is not usable.

    `headers` maps names to values and must ignore the case of names, as Django's does.
    """
    for name in HEADERS:
        value = headers.get(name, "")
        if name == "X-Amzn-Trace-Id":
            value = _trace(value)
        if value:
            return value if is_usable(value) else fresh()
    return fresh()


def usable_or_fresh(value: object) -> str:
    """What came in a message's header, if it is an id at all."""
    return value if isinstance(value, str) and is_usable(value) else fresh()


def is_usable(value: str) -> bool:
    """Short and harmless enough to be copied into logs and headers."""
    return _USABLE.match(value) is not None


def _trace(value: str) -> str:
    """`Self` of an AWS trace header (this hop), else `Root` (the whole trace), else nothing.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-request-tracing.html
    """
    fields = {}
    for part in value.split(";"):
        name, _, text = part.partition("=")
        fields[name.strip()] = text.strip()
    return fields.get("Self") or fields.get("Root") or ""
