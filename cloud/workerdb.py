"""A worker's database connections stay open from task to task: each pool thread keeps its own.

Celery's own bridge to Django, which this replaces, closes the connection before and after every
task: a connection, an authentication and a server process of PostgreSQL for each heartbeat. Here
one is closed when it is not good any more: after an error, and after a rest too long to trust it.
A task that met a dead one goes back to its queue (`cloud.intake`), so that a restart of PostgreSQL
costs no report.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from celery import Celery, signals
from django.db import InterfaceError, OperationalError, connection

# What a task raises while the database is away, which says nothing about its message.
AWAY = (OperationalError, InterfaceError)
# Seconds that a message is held meanwhile, and between two looks.
_PATIENCE, _PAUSE = 120.0, 0.5
# A connection that rested no longer than this is taken for good without asking, in seconds.
TRUSTED_SECONDS = 5.0

_rest = threading.local()


def fixup(app: Celery) -> None:
    """For `Celery(fixups=[...])`: Django is up before tasks are imported, and kept connected."""
    signals.import_modules.connect(_set_up, sender=app)
    signals.worker_init.connect(_watch_tasks)


def wait() -> None:
    """Hold a message that needs the database until that answers, or for a while.

    Redelivery would wear it out; a while is far below RabbitMQ's limit for unanswered messages.
    """
    until = time.monotonic() + _PATIENCE
    while not _answers() and time.monotonic() < until:
        time.sleep(_PAUSE)


def _answers() -> bool:
    """Whether this thread has a connection, which is made anew."""
    connection.close()
    try:
        connection.ensure_connection()
    except AWAY:
        return False
    return True


def _set_up(**_: Any) -> None:
    import django

    django.setup()


def _watch_tasks(**_: Any) -> None:
    signals.task_prerun.connect(before_task)
    signals.task_postrun.connect(after_task)


def before_task(**_: Any) -> None:
    """Distrust a connection that nobody used for a while; it is asked before its next use."""
    if time.monotonic() - getattr(_rest, "since", 0.0) > TRUSTED_SECONDS:
        connection.close_if_unusable_or_obsolete()


def after_task(**_: Any) -> None:
    """Close a connection on which anything went wrong: the next task gets a new one."""
    _rest.since = time.monotonic()
    if connection.errors_occurred or connection.needs_rollback:
        connection.close()
