"""Outermost layer of every web request: its id, one log line and the metrics of how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse
from structlog.contextvars import bound_contextvars

from cloud import metrics, requestid

log = structlog.get_logger(__name__)


class RequestIdMiddleware:
    """Binds the request id and returns it under both names that clients look for."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = requestid.take(request.headers)
        began = time.monotonic()
        with requestid.bound(request_id), bound_contextvars(request_id=request_id):
            response = self.get_response(request)
            seconds = time.monotonic() - began
            log.info(
                "request",
                method=request.method,
                path=request.path,
                status=response.status_code,
                milliseconds=round(1000 * seconds, 1),
            )
        route = request.resolver_match.route if request.resolver_match else None
        metrics.observe_request(request.method or "", route, response.status_code, seconds)
        response["X-Request-ID"] = response["X-Correlation-Id"] = request_id
        return response
