"""Every failure of a request as the contract's error body: `{"error": {code, message, details}}`.

Expected failures are CumuletErrors and carry their own code and status. Those of Django, DRF
and PostgreSQL are translated here; what remains is a defect, logged and hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.core.exceptions import ValidationError as ModelValidationError
from django.db import DatabaseError, InterfaceError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.fields import get_error_detail
from rest_framework.response import Response
from rest_framework.settings import api_settings

from cloud import requestid
from cloud.errors import Conflict, CumuletError, InvalidInput, NotFound

log = structlog.get_logger(__name__)

# SQLSTATEs of passing races: two writers met, and repeating the request may well succeed.
_RACES = frozenset(
    {
        "23505",  # unique violation
        "23P01",  # exclusion violation
        "40001",  # serialization failure
        "40P01",  # deadlock detected
    }
)


# The class of SQLSTATEs of values that do not fit: numbers, moments, texts.
_DATA_EXCEPTION = "22"


class BadJson(CumuletError):
    """The body is not a JSON object (HTTP 400)."""

    code = "json_error"
    status = 400


class Unauthorized(CumuletError):
    """No usable token or session (HTTP 401)."""

    code = "unauthorized"
    status = 401


class ReadOnlyToken(CumuletError):
    """A read-only token may only GET (HTTP 401)."""

    code = "token_readonly"
    status = 401


class Forbidden(CumuletError):
    """Known who asks, and it is not theirs to do (HTTP 403)."""

    code = "forbidden"
    status = 403


class MethodNotAllowed(CumuletError):
    """The path exists, but not with this method (HTTP 405)."""

    code = "method_not_allowed"
    status = 405


class RateLimitExceeded(CumuletError):
    """The token is used too often (HTTP 429)."""

    code = "rate_limit_exceeded"
    status = 429
    retryable = True


class Unavailable(CumuletError):
    """The database does not answer (HTTP 503)."""

    code = "unavailable"
    status = 503
    retryable = True


class ServerError(CumuletError):
    """A defect of Cumulet; its log tells more (HTTP 500)."""

    code = "server_error"
    status = 500

    def __init__(self) -> None:
        super().__init__(
            f"internal error: ask the operator to look for request {requestid.current()} in the log"
        )


def answer(exception: Exception, context: Mapping[str, Any]) -> Response:
    """DRF's EXCEPTION_HANDLER."""
    error = translated(exception)
    if isinstance(error, ServerError):
        log.error("request failed", exc_info=exception)
    response = Response(body_of(error), status=error.status)
    if isinstance(exception, exceptions.APIException):
        if header := getattr(exception, "auth_header", None):
            response["WWW-Authenticate"] = header
        if wait := getattr(exception, "wait", None):
            response["Retry-After"] = str(wait)
    return response


def body_of(error: CumuletError) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": error.message, "details": error.details}}


def translated(exception: Exception) -> CumuletError:
    """The error to show for any exception that a view may raise."""
    match exception:
        case CumuletError():
            return exception
        case exceptions.ValidationError():
            return _invalid_input(exception.detail)
        case ModelValidationError():
            return _invalid_input(get_error_detail(exception))
        case exceptions.ParseError():
            return BadJson(str(exception.detail))
        case SuspiciousOperation():
            return BadJson(f"request refused: {exception}")
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            return Unauthorized(str(exception.detail))
        case exceptions.PermissionDenied():
            return Forbidden(str(exception.detail))
        case PermissionDenied():
            return Forbidden(str(exception) or "you may not do this")
        case exceptions.NotFound() | Http404():
            return NotFound("not found: check the path and the id")
        case exceptions.MethodNotAllowed():
            return MethodNotAllowed(str(exception.detail))
        case exceptions.Throttled():
            return RateLimitExceeded(str(exception.detail))
        case DatabaseError() | InterfaceError():
            return _of_database(exception)
        case _:
            return ServerError()


def _of_database(exception: DatabaseError | InterfaceError) -> CumuletError:
    state = getattr(exception.__cause__, "pgcode", None)
    if state in _RACES:
        return Conflict("the object was changed at the same time: try again")
    if state is not None and state.startswith(_DATA_EXCEPTION):
        # Ours to refuse earlier, but nothing is broken: the caller can mend it.
        log.warning("value refused by the database", exc_info=exception)
        return InvalidInput("a value is one that the database cannot hold: correct the request")
    # Without an SQLSTATE, or with one of class 08 or 57, the server went away.
    lost = state is None or state[:2] in ("08", "57")
    if lost and type(exception).__name__ in ("OperationalError", "InterfaceError"):
        log.error("database away", exc_info=exception)
        return Unavailable("the database does not answer: try again in a moment")
    return ServerError()


def _invalid_input(detail: object) -> InvalidInput:
    fields = [{"name": name, "messages": messages} for name, messages in _flatten(detail, "")]
    names = ", ".join(f"'{field['name']}'" for field in fields)
    first = fields[0]["messages"][0] if fields else "unknown"
    plural = "s" if len(fields) > 1 else ""
    return InvalidInput(
        f"invalid input in field{plural} {names}: {first}", details={"fields": fields}
    )


def _flatten(detail: object, name: str) -> Iterator[tuple[str, list[str]]]:
    """DRF's nested errors as dotted field names with their messages."""
    if isinstance(detail, Mapping):
        for key, inner in detail.items():
            parts = [name, "" if key == api_settings.NON_FIELD_ERRORS_KEY else str(key)]
            yield from _flatten(inner, ".".join(filter(None, parts)))
    elif isinstance(detail, Sequence) and not isinstance(detail, str):
        texts = [str(item) for item in detail if isinstance(item, str)]
        if texts:
            yield name or "body", texts
        for index, item in enumerate(detail):
            if not isinstance(item, str):
                yield from _flatten(item, f"{name}.{index}" if name else str(index))
    else:
        yield name or "body", [str(detail)]
