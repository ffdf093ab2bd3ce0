"""The one id of a request, in every log line, message header, Action and answer it causes.

Taken from the caller if it sent a usable one, else made here. Pure: web, control and hosts share
it, each binding the id at its own door (middleware, message headers).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

# In the order in which they are believed.
HEADERS = ("X-Request-ID", "X-Correlation-ID", "X-Amzn-Trace-Id")
MAX_LENGTH = 128
# The header of AMQP messages that carries it on.
HEADER = "request_id"

_USABLE = re.compile(rf"[A-Za-z0-9._:=;/+-]{{1,{MAX_LENGTH}}}\Z")
_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def current() -> str | None:
    """The id of the request being served; None outside of one."""
    return _current.get()


@contextmanager
def bound(request_id: str) -> Iterator[None]:
    """Everything inside belongs to this request."""
    token = _current.set(request_id)
    try:
        yield
    finally:
        _current.reset(token)


def take(headers: Mapping[str, str]) -> str:
    """The first usable id among the headers, or a new UUID.

    `headers` maps names to values and must ignore the case of names, as Django's does.
    """
    for name in HEADERS:
        value = headers.get(name, "")
        if name == "X-Amzn-Trace-Id":
            value = _trace(value)
        if is_usable(value):
            return value
    return str(uuid.uuid4())


def is_usable(value: str) -> bool:
    """Short and harmless enough to be copied into logs and headers."""
    return _USABLE.match(value) is not None


def _trace(value: str) -> str:
    """`Self` of an AWS trace header (this hop), else `Root` (the whole trace), else nothing."""
    fields = dict(part.strip().partition("=")[::2] for part in value.split(";"))
    return fields.get("Self") or fields.get("Root") or ""
