"""Who is acting, as the audit trail names them.

Each door says it before anything changes: the middleware with the admin's session or the API's
token, manage.py, the reports of hosts, the sweep. Pure: manage.py needs it before Django is up.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What an actor is, and so where its name comes from."""

    TOKEN = "token"  # an API token
    USER = "user"  # an administrator with a session
    COMMAND = "command"  # manage.py, by the account of the operating system that ran it
    HOST = "host"  # a report, by the broker user that RabbitMQ verified
    SYSTEM = "system"  # the cloud itself


@dataclass(frozen=True)
class Actor:
    """`id` is that of the token, the administrator or the account; others have a name only."""

    kind: Kind
    name: str
    id: int | None = None

    @classmethod
    def host(cls, broker_user: str) -> Actor:
        return cls(Kind.HOST, broker_user)


# An entry under this name means that a door forgot to say who came through it.
UNDECLARED = Actor(Kind.SYSTEM, "undeclared")
SWEEP = Actor(Kind.SYSTEM, "sweep")

_current: ContextVar[Actor] = ContextVar("actor", default=UNDECLARED)


def current() -> Actor:
    return _current.get()


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Everything inside is done by this actor, or by the one that `become` names later."""
    token = _current.set(actor)
    try:
        yield
    finally:
        _current.reset(token)


def become(actor: Actor) -> None:
    """Whoever is behind this request is known now; until the end of the enclosing `acting`."""
    _current.set(actor)


def account() -> Actor:
    """The account of the operating system that runs this process."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # in a container, an account may have no name
        name = f"uid {uid}"
    return Actor(Kind.COMMAND, name, uid)
