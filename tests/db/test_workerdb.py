"""A worker's thread keeps its connection from task to task, and loses it when it is no good."""

from __future__ import annotations

import psycopg2
import pytest
from celery.exceptions import Reject
from django.db import connection, transaction

from cloud import intake, workerdb
from cloud.celery import app

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.faults]


class Ask(intake.task_class(workerdb.AWAY, pause=workerdb.wait)):  # type: ignore[misc]
    """Answers which server process worked for it."""

    name = "test.ask"
    runs = 0

    def run(self) -> int:
        self.runs += 1
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return int(cursor.fetchone()[0])


class Fail(Ask):
    """Asks for what is not there."""

    name = "test.fail"

    def run(self) -> int:
        self.runs += 1
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing")
        return 0


def task(one: Ask | None = None) -> int:
    """One task, as a worker runs it."""
    work = one or Ask()
    work.bind(app)
    workerdb.before_task()
    try:
        return int(work())
    finally:
        workerdb.after_task()


def end(pid: int) -> None:
    """What a restart of PostgreSQL does to a connection."""
    facts = connection.get_connection_params()
    names = {"dbname", "user", "password", "host", "port"}
    other = psycopg2.connect(**{name: facts[name] for name in names & facts.keys()})
    other.autocommit = True
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    other.close()


def test_one_connection_serves_task_after_task() -> None:
    assert len({task() for _ in range(3)}) == 1


def test_a_message_whose_task_meets_a_dead_connection_comes_again_to_a_good_one() -> None:
    before, ask = task(), Ask()
    end(before)
    with pytest.raises(Reject) as refused:
        task(ask)
    assert refused.value.requeue
    assert task(ask) != before
    assert ask.runs == 2


def test_a_task_whose_own_fault_it_is_fails_at_once_and_the_next_one_works() -> None:
    fail = Fail()
    with pytest.raises(Reject) as refused:
        task(fail)
    assert not refused.value.requeue
    assert fail.runs == 1
    task()


def test_after_a_rest_a_dead_connection_is_noticed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workerdb, "TRUSTED_SECONDS", 0.0)
    before, ask = task(), Ask()
    end(before)
    assert task(ask) != before
    assert ask.runs == 1
