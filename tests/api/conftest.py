"""A small cloud to ask: one host with room, one pool, one image, one size, and a project's token.

No host runs here. What it would report is written through `vms.reports`, by a test itself or by
the thread of `obedient_host`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import pytest
from django.db import connections
from django.db.models import F, Q
from django.test import Client

from cloud.broker import broker_user
from cloud.models import Project
from cloud.tokens import issue_token
from tests import factories as make
from vms import reports
from vms.models import VM


@pytest.fixture(scope="session", autouse=True)
def no_connection_is_kept() -> None:
    """Threads of the live server would keep theirs after the last test."""
    connections.settings["default"]["CONN_MAX_AGE"] = 0


class Answer:
    """An answer of the API with what tests look at."""

    def __init__(self, response: Any) -> None:
        self.response = response
        self.status: int = response.status_code
        self.headers = response.headers
        self.type: str = response.headers.get("Content-Type", "")
        self.json: Any = response.json() if response.content else None

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error

    @property
    def code(self) -> str | None:
        return self.json["error"]["code"] if "error" in (self.json or {}) else None

    @property
    def fields(self) -> list[str]:
        return [field["name"] for field in self.error["details"]["fields"]]


@dataclass(frozen=True)
class Api:
    """Asks below /v1/ with one token."""

    token: str | None

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.ask("POST", path, body, headers)

    def put(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.ask("PUT", path, body, headers)

    def delete(self, path: str, **headers: str) -> Answer:
        return self.ask("DELETE", path, headers=headers)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """A body that is text or bytes is sent as it is, anything else as JSON."""
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        client = Client(raise_request_exception=False)
        data = "" if body is None else body
        kind = sent.pop("Content-Type", "application/json")
        return Answer(
            client.generic(
                method,
                f"/v1/{path}",
                data if isinstance(data, str | bytes) else client._encode_json(data, kind),
                content_type=kind,
                headers=sent,
            )
        )


def api_of(project: Project, **rights: bool) -> Api:
    """With a new token of the project."""
    return Api(issue_token(project, f"token {project.tokens.count()}", **rights))


@pytest.fixture
def lab(db: None) -> None:
    """One host with room, one pool, one image, one size."""
    make.host()
    make.pool()
    make.image()
    make.server_type()


@pytest.fixture
def api(lab: None) -> Api:
    return api_of(make.project())


@pytest.fixture
def order() -> dict[str, Any]:
    """The body of the least that creates a server."""
    return {"name": "web-1", "server_type": "nano", "image": "micro"}


def host_says(vm: VM, **facts: Any) -> None:
    """The host reports; by default that all is as wanted."""
    reports.vm_report(make.report(vm, **facts), broker_user(vm.host.name))


@contextmanager
def obedient_host() -> Iterator[None]:
    """Meanwhile, hosts do at once what they should."""
    done = Event()

    def obey() -> None:
        unmet = Q(observed_generation__lt=F("generation")) | Q(converged=False)
        over = False
        while not over:
            over = done.wait(0.05)  # and one last round, for what was asked meanwhile
            for vm in VM.objects.select_related("host").filter(unmet):
                host_says(vm)
        connections.close_all()

    thread = Thread(target=obey)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
