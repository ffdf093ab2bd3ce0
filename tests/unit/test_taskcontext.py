"""A task works for the request in its message's header, and for nobody once it has ended."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import structlog
from celery import Celery

from cloud import requestid, taskcontext

pytestmark = pytest.mark.trace


@pytest.fixture
def app() -> Iterator[Celery]:
    """Runs tasks in this process; nothing is sent."""
    app = Celery("test", broker="memory://", fixups=[], set_as_current=False)
    app.conf.update(task_ignore_result=True)
    yield app
    app.close()


def run(task: Any, header: object = None) -> Any:
    headers = {} if header is None else {requestid.HEADER: header}
    return task.apply(headers=headers, throw=False).result


def test_it_has_the_id_of_its_message(app: Celery) -> None:
    assert run(app.task(requestid.current, name="current"), "r-1") == "r-1"


def test_without_an_id_each_run_gets_its_own(app: Celery) -> None:
    task = app.task(requestid.current, name="current")
    one, two = run(task), run(task)
    assert uuid.UUID(one).version == 4
    assert one != two


@pytest.mark.parametrize("hostile", ["a b", "x" * 129, "a\nb", 7, ["r-1"]])
def test_an_unusable_id_is_replaced(app: Celery, hostile: object) -> None:
    assert run(app.task(requestid.current, name="current"), hostile) != hostile


def test_after_a_task_nothing_is_left_of_it_even_if_it_failed(app: Celery) -> None:
    def fail() -> None:
        raise ValueError(requestid.current())

    assert str(run(app.task(fail, name="fail"), "r-1")) == "r-1"
    assert requestid.current() is None
    assert structlog.contextvars.get_contextvars() == {}


def test_a_loop_inside_of_a_task_knows_the_id(app: Celery) -> None:
    async def ask() -> str | None:
        await asyncio.sleep(0)
        return await asyncio.to_thread(requestid.current)

    def loop() -> str | None:
        return asyncio.run(ask())

    assert run(app.task(loop, name="loop"), "r-1") == "r-1"


def test_threads_that_take_one_task_after_the_other_mix_nothing_up(app: Celery) -> None:
    def twice() -> tuple[str | None, str | None]:
        return requestid.current(), requestid.current()

    task = app.task(twice, name="twice")
    ids = [f"r-{number}" for number in range(200)]
    with ThreadPoolExecutor(4) as threads:
        seen = list(threads.map(lambda one: run(task, one), ids))
    assert seen == [(one, one) for one in ids]


def test_what_is_sent_carries_the_id_in_its_header_and_for_flower() -> None:
    headers: dict[str, Any] = {"task": "vms.ensure"}
    with requestid.bound("r-1"):
        taskcontext._send_on(headers=headers)
    assert headers[requestid.HEADER] == "r-1"
    assert headers["kwargsrepr"] == "request_id=r-1"


def test_what_nobody_asked_for_is_sent_under_an_id_of_its_own() -> None:
    headers: dict[str, Any] = {}
    taskcontext._send_on(headers=headers)
    assert uuid.UUID(headers[requestid.HEADER]).version == 4
