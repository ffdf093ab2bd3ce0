"""`GET /metrics`: the control plane's numbers for Prometheus.

Open to this machine itself; everybody else needs CUMULET_METRICS_TOKEN or an operator's token.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_GET
from prometheus_client.registry import Collector

from cloud.families import CONTENT_TYPE, exposition
from cloud.metrics import counted
from cloud.tokens import find_token, note_use

# A proxy on this machine passes on requests of strangers, and says so with one of these.
_FORWARDED = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")
_ADVICE = (
    "send 'Authorization: Bearer TOKEN' with CUMULET_METRICS_TOKEN or an operator's API token,"
    " or ask from the control machine itself\n"
)


@require_GET
def scrape(request: HttpRequest, collectors: Sequence[Collector] = ()) -> HttpResponse:
    """What was counted, then what each of `collectors` finds now."""
    status = HTTPStatus.OK if _is_local(request) else _status_of(request)
    if status is HTTPStatus.OK:
        return HttpResponse(exposition(counted(), *collectors), content_type=CONTENT_TYPE)
    refusal = HttpResponse(f"{status.phrase}: {_ADVICE}", "text/plain; charset=utf-8", status)
    if status is HTTPStatus.UNAUTHORIZED:
        refusal["WWW-Authenticate"] = 'Bearer realm="metrics"'
    return refusal


def _is_local(request: HttpRequest) -> bool:
    if any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


def _status_of(request: HttpRequest) -> HTTPStatus:
    """OK for who may read the numbers, else why not."""
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret:
        return HTTPStatus.UNAUTHORIZED
    if settings.METRICS_TOKEN and constant_time_compare(secret, settings.METRICS_TOKEN):
        return HTTPStatus.OK
    token = find_token(secret)
    if token is None:
        return HTTPStatus.UNAUTHORIZED
    note_use(token)
    return HTTPStatus.OK if token.operator else HTTPStatus.FORBIDDEN
