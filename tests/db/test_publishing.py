"""What leaves a process for RabbitMQ, and what may be seen of it on the way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery.contrib.testing.worker import start_worker
from kombu import Connection, Exchange

from cloud import agent, celery
from cloud.broker import HOSTS_EXCHANGE, REPORTS, declare_cloud, declare_host
from cloud.hostconfig import HostConfig


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes this process the host h1 with a given broker URL."""

    def join(url: str) -> None:
        bundle = tmp_path / "bundle.json"
        bundle.write_text(json.dumps({"version": 1, "host": "h1", "broker_url": url}))
        monkeypatch.setenv("CUMULET_BUNDLE", str(bundle))
        forget()

    def forget() -> None:
        agent.config.cache_clear()
        agent.app.cache_clear()

    yield join
    forget()


def remove_exchange(url: str, name: str) -> None:
    with Connection(url) as connection:
        Exchange(name, "topic", channel=connection.default_channel).delete()


def test_a_report_under_a_password_that_is_void_is_not_sent(rabbitmq: str, use: Any) -> None:
    parts = urlsplit(rabbitmq)
    use(f"{parts.scheme}://{parts.username}:void@{parts.hostname}:{parts.port}{parts.path}")
    assert agent.publish("reports.host", {}, summary="host h1") is False


def test_a_report_is_sent_again_once_the_broker_has_its_exchanges_back(
    rabbitmq: str, use: Any
) -> None:
    use(rabbitmq)
    remove_exchange(rabbitmq, REPORTS)
    try:
        assert agent.publish("reports.host", {}, summary="host h1") is False
    finally:
        declare_cloud(rabbitmq)
    assert agent.publish("reports.host", {}, summary="host h1") is True


def test_a_hint_to_a_broker_without_exchanges_leaves_the_work_to_the_sweep(rabbitmq: str) -> None:
    remove_exchange(rabbitmq, HOSTS_EXCHANGE)
    try:
        for _ in range(3):
            celery.hint("host.h1", "vms.ensure", {}, summary="server web-1")
    finally:
        declare_cloud(rabbitmq)


# Celery's own test worker leaves its sockets to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning", "ignore::DeprecationWarning")
def test_remote_control_sees_the_summary_of_a_task_and_none_of_its_secrets(rabbitmq: str) -> None:
    declare_cloud(rabbitmq)
    declare_host(rabbitmq, "h9")
    nowhere = Path("/nowhere")
    app = agent.make_app(HostConfig("h9", rabbitmq, state_dir=nowhere, run_dir=nowhere))
    app.conf.update(include=[], worker_detect_quorum_queues=True)
    runs, seen = threading.Event(), threading.Event()

    @app.task(name="test.hold")
    def hold(document: dict[str, str]) -> None:
        runs.set()
        seen.wait(30)

    with start_worker(app, pool="threads", concurrency=1, perform_ping_check=False):
        hold.apply_async([{"user_data": "planted-secret"}], argsrepr="(server web-1)")
        assert runs.wait(20)
        try:
            answer = json.dumps(app.control.inspect(timeout=3).active())
        finally:
            seen.set()
    assert "(server web-1)" in answer
    assert "planted-secret" not in answer
