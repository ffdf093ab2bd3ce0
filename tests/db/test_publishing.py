"""A broker that refuses a message: the sender goes on as it does while the broker is away."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cloud import agent, celery
from cloud.broker import declare_cloud
from cloud.hostconfig import HostConfig


def use(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = HostConfig("h1", url, state_dir=Path("/nowhere"), run_dir=Path("/nowhere"))
    app = agent.make_app(config)
    monkeypatch.setattr(agent, "config", lambda: config)
    monkeypatch.setattr(agent, "app", lambda: app)


def test_a_report_under_a_password_that_is_void_is_not_sent(
    rabbitmq: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = urlsplit(rabbitmq)
    void = f"{parts.scheme}://{parts.username}:void@{parts.hostname}:{parts.port}{parts.path}"
    use(void, monkeypatch)
    assert agent.publish("reports.host", {}, summary="host h1") is False


def test_a_report_is_sent_again_once_the_broker_has_its_exchanges_back(
    rabbitmq: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(rabbitmq, monkeypatch)
    with monkeypatch.context() as wiped:
        wiped.setattr(agent, "REPORTS_EXCHANGE", "missing")
        assert agent.publish("reports.host", {}, summary="host h1") is False
    declare_cloud(rabbitmq)
    assert agent.publish("reports.host", {}, summary="host h1") is True


def test_a_hint_to_a_broker_without_exchanges_leaves_the_work_to_the_sweep(
    rabbitmq: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery, "HOSTS_EXCHANGE", "missing")
    for _ in range(3):
        celery.hint("host.h1", "vms.ensure", {}, summary="server web-1")
