"""The broker or the database goes: the same end, and typed answers meanwhile."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing

import httpx
import psutil
import psycopg2

from deploy import broker, postgres
from tests.e2e.faults.trial import Trial
from tests.e2e.world import until

_OUTAGE_SECONDS = 60.0
_IN_TRANSACTION = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = %s AND pid <> pg_backend_pid() AND backend_xid IS NOT NULL
"""


def test_with_the_broker_gone_for_a_minute_and_all_messages_lost_the_end_is_the_same(
    trial: Trial,
) -> None:
    cloud, guests = trial.world.cloud, trial.qemus()
    supervisor = cloud.supervisor
    # While no host is heard of for half a minute, none takes a new server; deletes may take 90 s.
    failures = ["resource_unavailable", "timeout"]
    with trial.under_load("RabbitMQ away for a minute, purged", failures=failures):
        broker.purge_all(cloud.instance)
        supervisor.stop(broker.NAME)
        try:
            assert not broker.ready(cloud.instance)
            time.sleep(_OUTAGE_SECONDS)
            assert trial.world.status(trial.residents["h1"]) == "unknown"
        finally:
            supervisor.start(broker.NAME)
        supervisor.wait(broker.NAME, lambda: broker.ready(cloud.instance), seconds=90)
        broker.purge_all(cloud.instance)
    assert trial.qemus() == guests


def test_while_the_database_restarts_the_api_says_so_and_comes_back(trial: Trial) -> None:
    cloud, guests = trial.world.cloud, trial.qemus()
    before = cloud.supervisor.pid(postgres.NAME)
    with trial.under_load("PostgreSQL restarted") as load:
        cloud.supervisor.stop(postgres.NAME)
        try:
            _expect_unavailable(trial)
            until(lambda: load.was_told("unavailable"), "users of the load are told", seconds=30)
        finally:
            cloud.supervisor.start(postgres.NAME)
    assert cloud.supervisor.pid(postgres.NAME) != before
    assert trial.qemus() == guests


def test_a_backend_killed_in_a_transaction_loses_nothing(trial: Trial) -> None:
    cloud, guests = trial.world.cloud, trial.qemus()
    with trial.under_load("PostgreSQL backend killed in a transaction"):
        victim = _kill_one_in_transaction(trial)
        until(lambda: not psutil.pid_exists(victim), "it is dead", seconds=5)
        until(lambda: postgres.ready(cloud.instance), "the server recovered", seconds=30)
    assert trial.qemus() == guests


def test_a_killed_database_server_is_started_again_and_loses_nothing(trial: Trial) -> None:
    cloud, guests = trial.world.cloud, trial.qemus()
    before = cloud.supervisor.pid(postgres.NAME)
    with trial.under_load("PostgreSQL killed"):
        cloud.supervisor.signal(postgres.NAME, "KILL")
        until(lambda: not psutil.pid_exists(before), "it is dead", seconds=5)
        until(lambda: postgres.ready(cloud.instance), "it is started again", seconds=60)
    assert trial.qemus() == guests


def _expect_unavailable(trial: Trial) -> None:
    """The contract's error body with 503, not a page or a traceback."""
    instance = trial.world.cloud.instance
    token = (instance.state / "token").read_text().strip()
    for path in ("servers", "actions", "hosts"):
        answer = httpx.get(
            f"{instance.api_url}/{path}", headers={"Authorization": f"Bearer {token}"}, timeout=10
        )
        assert answer.status_code == 503, answer.text
        assert answer.json()["error"]["code"] == "unavailable"


def _kill_one_in_transaction(trial: Trial) -> int:
    """The backend of a transaction that has written something and is not over."""
    instance = trial.world.cloud.instance
    with closing(psycopg2.connect(postgres.url(instance))) as connection:
        connection.autocommit = True
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with connection.cursor() as cursor:
                cursor.execute(_IN_TRANSACTION, [postgres.DATABASE])
                if found := cursor.fetchone():
                    os.kill(found[0], signal.SIGKILL)
                    return int(found[0])
    raise AssertionError("no transaction was seen in 30 s of load")
