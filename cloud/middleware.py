"""Around every web request: its id, one log line and the metrics of its end, who is behind it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponse

from cloud import metrics, requestid, telemetry
from cloud.actor import UNDECLARED, Actor, Kind, acting, become

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
            seconds = time.monotonic() - began
            if span is not None:
                span.update_name(f"{request.method} {_route(request) or '(none)'}")
                span.set_attribute("http.response.status_code", response.status_code)
            log.info(
                "request",
                method=request.method,
                path=request.path,
                status=response.status_code,
                duration=round(seconds, 4),
            )
        status, method = response.status_code, request.method or ""
        metrics.observe_request(method, _route(request), status, seconds)
        response["X-Request-ID"] = response["X-Correlation-Id"] = request_id
        return response


def _route(request: HttpRequest) -> str | None:
    """The URL's pattern, because spans and metrics are named by what many requests share."""
    return request.resolver_match.route if request.resolver_match else None


class ActorMiddleware:
    """What is changed in the admin is its user's work; the API says itself who asks.

    Nobody is remembered after the request, which matters as threads are used again.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with acting(UNDECLARED):
            return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> None:
        # Elsewhere nobody looks at the session, and looking costs queries.
        if request.path.startswith("/admin/") and request.user.is_authenticated:
            become(Actor(Kind.USER, request.user.get_username(), request.user.pk))
