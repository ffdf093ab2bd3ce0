"""Outermost layer of every web request: its id, and one log line about how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse

from cloud import requestid, telemetry

log = structlog.get_logger(__name__)


class RequestIdMiddleware:
    """Binds the request id and returns it under both names that clients look for."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = requestid.take(request.headers)
        began = time.monotonic()
        with requestid.bound(request_id), telemetry.span(f"HTTP {request.method}") as span:
            response = self.get_response(request)
            if span is not None:
                span.update_name(f"{request.method} {_route(request)}")
                span.set_attribute("http.response.status_code", response.status_code)
            log.info(
                "request",
                method=request.method,
                path=request.path,
                status=response.status_code,
                duration=round(time.monotonic() - began, 4),
            )
        response["X-Request-ID"] = response["X-Correlation-Id"] = request_id
        return response


def _route(request: HttpRequest) -> str:
    """The URL's pattern, because a span is named by what many requests share."""
    return request.resolver_match.route if request.resolver_match else "(none)"
