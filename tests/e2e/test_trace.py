"""One request through web, broker and hosts: everything about it names it, nothing else does."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import httpx
import psutil
import pytest

from deploy import guests
from deploy.cloud import Cloud
from tests.e2e.evidence import Line, Messages, lines_by_request, tapped_broker, tasks_by_request
from tests.e2e.world import World, until

pytestmark = pytest.mark.trace

# So many of each are under way at the same time: 200 in all.
CREATES, STARTED, DELETES, FAILING = 65, 5, 50, 80
# A server that is never started needs no memory to speak of.
_TINY = """
from vms.models import ServerType
ServerType.objects.get_or_create(
    name="tiny", defaults={"cores": 1, "memory_mb": 64, "disk_gb": 1}
)
"""


@dataclass
class Asked:
    """One request: what it was answered, and what it was about."""

    request_id: str
    method: str
    path: str
    body: Any = None
    expected: int = 201
    headers: dict[str, str] = field(default_factory=dict)
    server: int | None = None
    actions: list[int] = field(default_factory=list)
    host: str = ""


@dataclass(frozen=True)
class Api:
    """The real web server, asked by many at once."""

    http: httpx.Client

    def ask(self, asked: Asked) -> Asked:
        """Send it with its id; what it was answered is written into it."""
        headers = {"X-Request-ID": asked.request_id, **asked.headers}
        answer = self.http.request(asked.method, asked.path, json=asked.body, headers=headers)
        assert answer.status_code == asked.expected, answer.text
        assert answer.headers["X-Request-ID"] == asked.request_id
        assert answer.headers["X-Correlation-Id"] == asked.request_id
        if answer.is_success:
            body = answer.json()
            actions = [body["action"], *body.get("next_actions", [])]
            asked.actions = [action["id"] for action in actions]
            asked.server = asked.server or body["server"]["id"]
        return asked

    def get(self, path: str, **params: Any) -> Any:
        answer = self.http.get(path, params=params)
        answer.raise_for_status()
        return answer.json()

    def all_ended(self, asked: list[Asked]) -> bool:
        ids = [pk for one in asked for pk in one.actions]
        actions = [
            action
            for start in range(0, len(ids), 100)
            for action in self.get("actions", id=ids[start : start + 100])["actions"]
        ]
        assert len(actions) == len(ids)
        return all(action["status"] != "running" for action in actions)


@pytest.fixture
def api(world: World) -> Iterator[Api]:
    cloud = world.cloud
    cloud.manage([["shell", "-c", _TINY]])
    with httpx.Client(
        base_url=cloud.instance.api_url,
        headers={"Authorization": f"Bearer {guests.ensure_token(cloud)}"},
        limits=httpx.Limits(max_connections=200),
        timeout=120,
    ) as http:
        yield Api(http)


def create(name: str, *, started: bool = False) -> Asked:
    body = {
        "name": name,
        "server_type": "nano" if started else "tiny",
        "image": "micro",
        "start_after_create": started,
    }
    return Asked(f"create-{name}-{uuid.uuid4()}", "POST", "servers", body)


def delete(created: Asked) -> Asked:
    path = f"servers/{created.server}"
    request_id = f"delete-{created.server}-{uuid.uuid4()}"
    return Asked(request_id, "DELETE", path, expected=200, server=created.server)


def failing(number: int) -> Asked:
    kinds: list[tuple[str, str, Any, int, dict[str, str]]] = [
        ("GET", "servers/999999", None, 404, {}),
        ("POST", "servers", {"name": "no type"}, 422, {}),
        ("POST", "servers", {"name": "x", "server_type": "nano", "image": "none"}, 422, {}),
        ("GET", "servers", None, 401, {"Authorization": "Bearer nobody"}),
        ("POST", "servers/999999/actions/poweron", None, 404, {}),
        ("DELETE", "locations", None, 405, {}),
        ("GET", "nowhere", None, 404, {}),
    ]
    method, path, body, status, headers = kinds[number % len(kinds)]
    return Asked(f"fail-{number}-{uuid.uuid4()}", method, path, body, status, headers)


@pytest.fixture
def unruly_agents(world: World) -> Iterator[None]:
    """Meanwhile, agents and monitors are killed one after the other; they are started again."""
    calm = Event()

    def kill(cloud: Cloud) -> None:
        programs = [name for host in cloud.hosts for name in (host.agent, host.monitor)]
        for name in programs:
            if calm.wait(2):
                return
            psutil.Process(cloud.supervisor.pid(name)).kill()
            until(
                lambda name=name: cloud.supervisor.states()[name] == "RUNNING",  # type: ignore[misc]
                f"{name} runs again",
                seconds=60,
            )

    thread = Thread(target=kill, args=(world.cloud,))
    thread.start()
    yield
    calm.set()
    thread.join()


@dataclass(frozen=True)
class Evidence:
    """All that is known of what was asked."""

    asked: list[Asked]
    lines: dict[str, list[Line]]
    messages: Messages
    tasks: dict[str, list[dict[str, Any]]]

    def of(self, kind: str) -> list[Asked]:
        return [one for one in self.asked if one.request_id.startswith(kind)]


@pytest.fixture
def evidence(world: World, api: Api, unruly_agents: None) -> Evidence:
    """Of 200 requests at once, after everything that they caused has ended."""
    with tapped_broker(world.cloud.instance) as messages, ThreadPoolExecutor(200) as threads:
        doomed = list(threads.map(api.ask, [create(f"doomed-{n}") for n in range(DELETES)]))
        until(lambda: api.all_ended(doomed), "servers to be deleted exist", seconds=240)
        storm = [
            *(create(f"new-{n}") for n in range(CREATES)),
            *(create(f"started-{n}", started=True) for n in range(STARTED)),
            *(delete(one) for one in doomed),
            *(failing(n) for n in range(FAILING)),
        ]
        random.Random(7).shuffle(storm)
        asked = [*doomed, *threads.map(api.ask, storm)]
        until(lambda: api.all_ended(asked), "everything asked for has ended", seconds=300)
        kept = [one for one in asked if one.request_id.startswith(("create-new", "create-started"))]
        asked += threads.map(api.ask, [delete(one) for one in kept])
        until(lambda: api.all_ended(asked), "everything is gone", seconds=300)
        until(lambda: not world.leftovers(), "hosts are clean", seconds=120)
    instance = world.cloud.instance
    for one in asked:
        if one.actions:
            steps = api.get(f"actions/{one.actions[0]}/timeline")["timeline"]["steps"]
            one.host = next(step["host"] for step in steps if step["name"] == "queued")
    return Evidence(asked, lines_by_request(instance), messages, tasks_by_request(instance))


def test_of_200_requests_at_once_everything_names_its_own_and_nothing_another(
    evidence: Evidence, api: Api
) -> None:
    assert len(evidence.asked) - DELETES - CREATES - STARTED == 200
    for one in evidence.asked:
        web_logged_it_once(one, evidence)
    for one in evidence.of("fail"):
        nobody_but_web_heard_of_it(one, evidence)
    for kind, task, command, verbs in (
        ("create", "vms.ensure", "create_server", [*2 * ["primary_ip.create"], "server.create"]),
        (
            "delete",
            "vms.remove",
            "delete_server",
            [*2 * ["primary_ip.delete"], "server.delete", "server.gone"],
        ),
    ):
        for one in evidence.of(kind):
            its_actions_are_its_own(one, command, api)
            its_changes_are_in_the_audit_trail(one, verbs, api)
            its_messages_are_complete_and_its_own(one, task, evidence)
            its_tasks_in_flower_are_complete_and_its_own(one, task, evidence)
            its_log_lines_are_complete_and_its_own(one, evidence)
    lines_about_a_server_name_its_requests_or_nobodys(evidence)


def web_logged_it_once(one: Asked, evidence: Evidence) -> None:
    requests = [line for line in evidence.lines[one.request_id] if line["event"] == "request"]
    facts = [(line["service"], line["method"], line["status"]) for line in requests]
    assert facts == [("web", one.method, one.expected)], one


def nobody_but_web_heard_of_it(one: Asked, evidence: Evidence) -> None:
    assert {line["service"] for line in evidence.lines[one.request_id]} == {"web"}, one
    assert one.request_id not in evidence.messages.by_request()
    assert one.request_id not in evidence.tasks


def its_actions_are_its_own(one: Asked, command: str, api: Api) -> None:
    actions = api.get("actions", id=one.actions)["actions"]
    assert {action["request_id"] for action in actions} == {one.request_id}
    assert {action["status"] for action in actions} == {"success"}, actions
    assert actions[0]["command"] == command
    about = [{"id": one.server, "type": "server"}]
    assert all(action["resources"] == about for action in actions)
    timeline = api.get(f"actions/{one.actions[0]}/timeline")["timeline"]
    names = [step["name"] for step in timeline["steps"]]
    assert "queued" in names
    assert command == "delete_server" or names[0] == "placed"
    assert {step["host"] for step in timeline["steps"]} == {one.host}


def its_changes_are_in_the_audit_trail(one: Asked, verbs: list[str], api: Api) -> None:
    """The server's own, and those of the two addresses that come and go with it."""
    entries = api.get("audit", request_id=one.request_id)["audit"]
    assert sorted(entry["verb"] for entry in entries) == verbs, one
    about = {(entry["resource"]["type"], entry["resource"]["id"]) for entry in entries}
    assert {number for kind, number in about if kind == "server"} == {one.server}
    assert sum(kind == "primary_ip" for kind, _ in about) == 2


def its_messages_are_complete_and_its_own(one: Asked, task: str, evidence: Evidence) -> None:
    messages = evidence.messages.by_request()[one.request_id]
    assert {name for name, _ in messages} == {task, "reports.vm"}, one
    assert {document["vm_id"] for _, document in messages} == {one.server}
    expected = {"request_id": one.request_id, "action_id": one.actions[0]}
    # None: the document came once more, and was carried out already.
    foreign = [message for message in messages if message[1].get("cause") not in (expected, None)]
    assert not foreign, one


def its_tasks_in_flower_are_complete_and_its_own(one: Asked, task: str, evidence: Evidence) -> None:
    tasks = evidence.tasks[one.request_id]
    assert {known["name"] for known in tasks} == {task, "reports.vm"}, one
    assert all(f"#{one.server}:" in known["args"] for known in tasks), tasks


def its_log_lines_are_complete_and_its_own(one: Asked, evidence: Evidence) -> None:
    lines = evidence.lines[one.request_id]
    events = {(line["service"], line["event"]) for line in lines}
    expected = {("agent", "document accepted"), ("control", "task ended")}
    assert expected <= events, (one, events)
    assert {"agent", "monitor"} & {s for s, event in events if event == "step begins"}, one
    assert {line["host"] for line in lines if "host" in line} == {one.host}
    assert {line["vm"] for line in lines if "vm" in line} == {one.server}
    assert {line["action_id"] for line in lines if "action_id" in line} <= set(one.actions)
    of_host = [line for line in lines if line["event"].startswith("step ")]
    assert all(line["action_id"] == one.actions[0] for line in of_host)


def lines_about_a_server_name_its_requests_or_nobodys(evidence: Evidence) -> None:
    """Looks that no request asked for have an id of their own, which is a UUID and nothing else."""
    asked = {one.request_id: one.server for one in evidence.asked}
    servers = {one.server for one in evidence.asked if one.server}
    for request_id, lines in evidence.lines.items():
        about = {line["vm"] for line in lines if line.get("vm") in servers}
        if about and request_id in asked:
            assert about == {asked[request_id]}
        elif about:
            assert uuid.UUID(request_id).version == 4
