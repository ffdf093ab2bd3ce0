"""What every test may ask for: guards for unit tests, and the real parts for all others.

Nothing is started before a test needs it, everything is gone at the end of the session, and
what a killed session left is cleared at the start of the next one (`deploy.testing`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from hypothesis import settings
from pytest_django import DjangoDbBlocker

from cloud.broker import declare_cloud
from deploy.cloud import Cloud
from deploy.testing import Services, clear_leftovers
from tests import guards, lanes, records

TESTS = Path(__file__).parent
# A machine that is busy makes no example wrong.
settings.register_profile("cumulet", deadline=None)
settings.load_profile("cumulet")

SERVICES = Services()
os.environ.update(SERVICES.environment())

import django  # noqa: E402  (settings come from the environment above)

django.setup()


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `deploy/test simulation` takes; see tests/simulation."""
    group = parser.getgroup("simulation", "the crash simulation")
    group.addoption("--scene", help="only this scene, or these: 'user-*,attach'")
    group.addoption("--seeds", type=int, help="so many seeds of each scene, and nothing else")
    group.addoption("--seed", type=int, help="this seed alone")
    group.addoption("--step", help="kill:N, kill:N+ or broker:N alone, or `all` crash points")


def pytest_sessionstart(session: pytest.Session) -> None:
    if not _is_worker(session.config):
        clear_leftovers()
    if session.config.getoption("dist", "no") != "no":
        # The processes of the lanes must not read settings before they have services of their own.
        del os.environ["DJANGO_SETTINGS_MODULE"]
    SERVICES.open()


def pytest_sessionfinish(session: pytest.Session) -> None:
    SERVICES.close()
    if _is_worker(session.config):
        session.config.workeroutput[records.NAME] = records.lines()


def pytest_testnodedown(node: Any) -> None:
    """A lane's process ended: what it measured belongs to the whole run."""
    records.take(getattr(node, "workeroutput", {}).get(records.NAME, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := records.table():
        terminalreporter.section("crash simulation and recovery from faults")
        for line in lines:
            terminalreporter.write_line(line)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> lanes.Lanes:
    config.option.loadscopereorder = False
    return lanes.Lanes(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> tuple[int, bool]:
        # More hosts than the others expect: they come last, because hosts never go.
        rootless = item.get_closest_marker("rootless") is not None
        return lanes.rank(item.path.relative_to(TESTS)), rootless

    items.sort(key=rank)


def _is_worker(config: pytest.Config) -> bool:
    """Whether this process is one of several, see tests/lanes.py."""
    return hasattr(config, "workeroutput")


@pytest.fixture(autouse=True)
def only_pure_code_in_unit_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Unit tests start no process and open no connection; swallowing the refusal does not help."""
    if request.path.relative_to(TESTS).parts[0] != "unit":
        yield
        return
    with guards.pure() as violations:
        yield
    if violations:
        pytest.fail(f"a unit test reached out of the process: {', '.join(violations)}")


@pytest.fixture(scope="session")
def postgres() -> str:
    """URL of a running PostgreSQL of this session's own."""
    return SERVICES.postgres()


@pytest.fixture(scope="session")
def rabbitmq() -> str:
    """URL of a running RabbitMQ of this session's own, with the cloud's queues."""
    url = SERVICES.rabbitmq()
    declare_cloud(url)
    return url


@pytest.fixture(scope="session")
def cloud() -> Cloud:
    """A whole cloud of this session's own: control plane and three lab hosts."""
    return SERVICES.cloud()


@pytest.fixture(scope="session")
def rootless_cloud() -> Cloud:
    """The session's cloud with two hosts more, r1 and r2, whose agents have no privilege at all."""
    return SERVICES.rootless_cloud()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres: str) -> None:
    """pytest-django makes its test database on this server."""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Tests that commit empty every table at their end, the audit trail among them.

    At the session's end threads of workers still have connections, with which no database goes.
    """
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE cloud_auditentry DISABLE TRIGGER audit_is_never_emptied")
    yield
    connection.close()  # tests of faults may have ended its server since
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
