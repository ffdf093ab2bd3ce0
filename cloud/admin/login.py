"""The admin's login page behind `cloud.logins`: who tries too often is told when to come back.

Written here and not taken from a package: those that throttle logins lock accounts or addresses,
add tables, a backend and a middleware of their own, and let strangers keep the owner out.
"""

from __future__ import annotations

import math
import secrets
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import structlog
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.core.signing import BadSignature
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from unfold.forms import AuthenticationForm

from cloud.buckets import Level
from cloud.logins import Attempt
from cloud.metrics import LOGINS

log = structlog.get_logger(__name__)

DEVICE = "cumulet_device"
_KNOWN_FOR = timedelta(days=365)


class ThrottledForm(AuthenticationForm):
    """Django's form, which looks at the password only if the try is allowed."""

    refused: Level | None = None
    attempt: Attempt | None = None

    def clean(self) -> Any:
        account = self.cleaned_data.get("username")
        if account is None or not self.cleaned_data.get("password"):
            return super().clean()
        address = self.request.META.get("REMOTE_ADDR", "")
        self.attempt = Attempt(account, address, _device_of(self.request, account))
        self.refused = self.attempt.begin()
        if self.refused:
            LOGINS.labels("refused").inc()
            log.warning("login refused, too many tries", account=account[:150], address=address)
            self.request.login_wait = math.ceil(self.refused.wait)
            raise ValidationError(_advice(self.refused.wait), code="too_many_logins")
        try:
            cleaned = super().clean()
        except ValidationError:
            LOGINS.labels("failed").inc()
            log.warning("login failed", account=account[:150], address=address)
            raise
        LOGINS.labels("success").inc()
        self.attempt.succeeded()
        return cleaned


@sensitive_post_parameters()
def login(request: HttpRequest) -> HttpResponse:
    """`admin/login/`: 429 with Retry-After for who has to wait."""
    response: HttpResponse = admin.site.login(request)
    wait: int | None = getattr(request, "login_wait", None)
    if wait is not None:
        response.status_code = HTTPStatus.TOO_MANY_REQUESTS.value
        response["Retry-After"] = str(wait)
    elif request.method == "POST" and request.user.is_authenticated:
        _remember_device(response, request.user.get_username())
    return response


def _advice(wait: float) -> str:
    again = timezone.now() + timedelta(seconds=math.ceil(wait))
    return (
        f"Too many tries. Try again at {again:%H:%M:%S} UTC, in {math.ceil(wait)} seconds."
        " A browser in which you logged in before need not wait for what others tried."
    )


def _device_of(request: HttpRequest, account: str) -> str | None:
    """The browser's number, if it was this account that logged in with it."""
    try:
        value = request.get_signed_cookie(DEVICE, max_age=_KNOWN_FOR, salt=_salt(account))
    except (KeyError, BadSignature):
        return None
    return str(value)


def _remember_device(response: HttpResponse, account: str) -> None:
    response.set_signed_cookie(
        DEVICE,
        secrets.token_urlsafe(16),
        salt=_salt(account),
        max_age=_KNOWN_FOR,
        path="/admin/login/",
        secure=settings.SECURE_COOKIES,
        httponly=True,
        samesite="Lax",
    )


def _salt(account: str) -> str:
    return f"{__name__}:{account}"
