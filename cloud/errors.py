"""The base of every error that Cumulet raises on purpose.

An error has a permanent `code` (clients and operators match on it, so it never changes),
a message for a person that says what to do next, and says whether trying again can help.
The API turns it into the contract's error body, a host into a typed failure in its report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class CumuletError(Exception):
    """An expected failure, with everything a caller needs to decide what to do about it."""

    code: ClassVar[str] = "service_error"
    status: ClassVar[int] = 422
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


def invalid(field: str, message: str) -> InvalidInput:
    """The contract's `invalid_input` for one request field."""
    return invalid_fields({field: message})


def invalid_fields(problems: Mapping[str, str]) -> InvalidInput:
    """The contract's `invalid_input` for several request fields, with what is wrong with each."""
    names = ", ".join(f"'{name}'" for name in problems)
    return InvalidInput(
        f"invalid input in field{'s' if len(problems) > 1 else ''} {names}:"
        f" {next(iter(problems.values()))}",
        details={"fields": [{"name": name, "messages": [text]} for name, text in problems.items()]},
    )


class InvalidInput(CumuletError):
    """The request is malformed or names something that does not exist (HTTP 422)."""

    code = "invalid_input"


class NotFound(CumuletError):
    """The addressed object does not exist, or belongs to another project (HTTP 404)."""

    code = "not_found"
    status = 404


class NotUnique(CumuletError):
    """A name or key that must be unique is already taken (HTTP 409)."""

    code = "uniqueness_error"
    status = 409

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message, details={"fields": [{"name": field}]})


class Conflict(CumuletError):
    """The object changed meanwhile; the same request may succeed now (HTTP 409).

    Only for passing races: clients repeat it, old ones without an end.
    """

    code = "conflict"
    status = 409
    retryable = True


class Locked(CumuletError):
    """Another action has the object to itself (HTTP 423)."""

    code = "locked"
    status = 423


class Protected(CumuletError):
    """Protection is on for this operation (HTTP 423)."""

    code = "protected"
    status = 423


class InUse(CumuletError):
    """Something still needs the object."""

    code = "resource_in_use"


class ResourceUnavailable(CumuletError):
    """No host has room for the request (HTTP 412)."""

    code = "resource_unavailable"
    status = 412


class LimitExceeded(CumuletError):
    """A limit of the project or of the cloud is reached (HTTP 403)."""

    code = "resource_limit_exceeded"
    status = 403

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message, details={"limits": [{"name": limit}]})


class Unsupported(CumuletError):
    """The contract knows the request, this cloud does not offer it (HTTP 422)."""

    code = "unsupported_error"
