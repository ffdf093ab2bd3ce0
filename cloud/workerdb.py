"""A worker's database connections stay open from task to task: each pool thread keeps its own.

Celery's own bridge to Django, which this replaces, closes the connection before and after every
task: a connection, an authentication and a server process of PostgreSQL for each heartbeat. Here
one is closed when it is not good any more: after an error, and after a rest too long to trust it.
A task that met a dead one begins again, once, so that a restart of PostgreSQL costs no report.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from celery import Celery, Task, signals

# A connection that rested no longer than this is taken for good without asking, in seconds.
TRUSTED_SECONDS = 5.0

_rest = threading.local()


def fixup(app: Celery) -> None:
    """For `Celery(fixups=[...])`: Django is up before tasks are imported, and kept connected."""
    signals.import_modules.connect(_set_up, sender=app)
    signals.worker_init.connect(_watch_tasks)


class LastingTask(Task[Any, Any]):
    """A task that may be run again if its connection was dead: all of ours may."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from django.db import DatabaseError, InterfaceError, connection

        kept = connection.connection
        try:
            return self.run(*args, **kwargs)
        except (DatabaseError, InterfaceError):
            # psycopg2 says so of a connection that the server has ended.
            if kept is None or not kept.closed:
                raise
        connection.close()
        return self.run(*args, **kwargs)


def _set_up(**_: Any) -> None:
    import django

    django.setup()


def _watch_tasks(**_: Any) -> None:
    signals.task_prerun.connect(before_task)
    signals.task_postrun.connect(after_task)


def before_task(**_: Any) -> None:
    """Distrust a connection that nobody used for a while; it is asked before its next use."""
    from django.db import connection

    if time.monotonic() - getattr(_rest, "since", 0.0) > TRUSTED_SECONDS:
        connection.close_if_unusable_or_obsolete()


def after_task(**_: Any) -> None:
    """Close a connection on which anything went wrong: the next task gets a new one."""
    from django.db import connection

    _rest.since = time.monotonic()
    if connection.errors_occurred or connection.needs_rollback:
        connection.close()
