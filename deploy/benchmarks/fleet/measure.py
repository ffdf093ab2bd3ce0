"""What the control plane spends: statements by PostgreSQL's own count, processor seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2

from deploy import postgres
from deploy.benchmarks.footprint import processor_seconds
from deploy.cloud import Cloud


@dataclass
class Spent:
    """In `seconds`: statements (BEGIN, COMMIT and SAVEPOINT are some), processor seconds by
    program, and the statements that came most often: calls, milliseconds in all, text."""

    seconds: float = 0.0
    statements: int = 0
    processor: dict[str, float] = field(default_factory=dict)
    often: list[tuple[int, float, str]] = field(default_factory=list)


class Watcher:
    """Asks PostgreSQL under a role of its own, whose statements do not count."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        url = postgres.url(cloud.instance)
        with closing(psycopg2.connect(url)) as owner, owner, owner.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            cursor.execute("CREATE ROLE watcher SUPERUSER LOGIN PASSWORD %s", [_PASSWORD])
        address = url.rpartition("@")[2]
        self._connection = psycopg2.connect(f"postgres://watcher:{_PASSWORD}@{address}")
        self._connection.autocommit = True

    def close(self) -> None:
        self._connection.close()

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def spending(self, programs: tuple[str, ...]) -> Iterator[Spent]:
        """What is spent while the block runs."""
        pids = {name: self._cloud.supervisor.pid(name) for name in programs}
        spent = Spent()
        before = {name: processor_seconds(pid) for name, pid in pids.items()}
        self.ask("SELECT pg_stat_statements_reset()")
        began = time.monotonic()
        yield spent
        spent.seconds = time.monotonic() - began
        counted = self.ask(_COUNT, postgres.ROLE)
        spent.processor = {
            name: processor_seconds(pid) - before[name] for name, pid in pids.items()
        }
        spent.statements = sum(int(calls) for calls, _, _ in counted)
        spent.often = [(int(calls), float(ms), text) for calls, ms, text in counted[:25]]


_PASSWORD = "watcher"
_COUNT = """
    SELECT calls, total_exec_time, query FROM pg_stat_statements AS counted
    JOIN pg_roles ON pg_roles.oid = counted.userid WHERE rolname = %s ORDER BY calls DESC
"""
