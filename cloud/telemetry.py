"""Export of spans by OpenTelemetry: off unless CUMULET_OTLP_ENDPOINT names a collector.

The packages are optional (`pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http`).
A trace and a request find each other without any message between processes: the trace id is made
from the request id (`trace_id_of`), every span carries `cumulet.request_id`, and every log line
the `trace_id`. Nothing here is imported, and nothing costs anything, while the export is off.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from cloud import requestid

log = structlog.get_logger(__name__)

ENDPOINT = "CUMULET_OTLP_ENDPOINT"

# The trace id in AWS's form, 1-SECONDS-RANDOM, is the same 128 bits as W3C's without its hyphens.
_AMAZON = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})\Z")
_tracer: Any = None


def trace_id_of(request_id: str) -> str:
    """The W3C trace id (32 hexadecimal digits) under which a request's spans are exported.

    A UUID and an Amazon id keep their own digits; of anything else it is a hash.
    """
    if match := _AMAZON.match(request_id):
        return match[1] + match[2]
    try:
        return uuid.UUID(request_id).hex
    except ValueError:
        return hashlib.sha256(request_id.encode()).hexdigest()[:32]


def start(service: str, host: str = "") -> bool:
    """Begin to export if an endpoint is configured; whether it is.

    Missing packages are said in the log and end nothing.
    """
    global _tracer
    endpoint = os.environ.get(ENDPOINT)
    if not endpoint:
        return False
    try:
        _tracer = _make_tracer(endpoint, service, host)
    except ImportError as error:
        log.error(
            "traces are not exported: install opentelemetry-sdk and"
            " opentelemetry-exporter-otlp-proto-http, or unset the endpoint",
            variable=ENDPOINT,
            error=str(error),
        )
        return False
    return True


def enabled() -> bool:
    return _tracer is not None


@contextmanager
def span(name: str, **attributes: str | int | float | None) -> Iterator[Any]:
    """A span around what is done inside, part of the current request's trace.

    Yields the span, or None while nothing is exported.
    """
    if _tracer is None:
        yield None
        return
    known = {key: value for key, value in attributes.items() if value is not None}
    known["cumulet.request_id"] = requestid.current() or ""
    with _tracer.start_as_current_span(name, attributes=known) as current:
        yield current


def fail(current: Any, description: str) -> None:
    """Mark a span as failed; does nothing with None."""
    if current is not None:
        from opentelemetry.trace import Status, StatusCode

        current.set_status(Status(StatusCode.ERROR, description))


def _make_tracer(endpoint: str, service: str, host: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class RequestIds(RandomIdGenerator):
        """A new trace has the id that follows from the request's."""

        def generate_trace_id(self) -> int:
            return int(trace_id_of(requestid.now()), 16)

    facts = {"service.name": f"cumulet-{service}", "host.name": host or os.uname().nodename}
    provider = TracerProvider(resource=Resource.create(facts), id_generator=RequestIds())
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider.get_tracer("cumulet")
