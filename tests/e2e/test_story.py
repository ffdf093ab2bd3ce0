"""One request followed through web, broker and hosts, as an operator does it with its id."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest

from cloud import shell
from deploy import guests, state
from tests.e2e.world import World

pytestmark = pytest.mark.trace


def create(world: World, name: str, request_id: str) -> None:
    """A running micro guest, asked for under this id."""
    token = guests.ensure_token(world.cloud)
    answer = httpx.post(
        f"{world.cloud.instance.api_url}/servers",
        headers={"Authorization": f"Bearer {token}", "X-Request-ID": request_id},
        json={
            "name": name,
            "server_type": "nano",
            "image": "micro",
            "ssh_keys": [world.key.id],
        },
        timeout=10,
    )
    assert answer.status_code == 201, answer.text
    assert answer.headers["X-Request-ID"] == request_id
    server = world.api.servers.get_by_id(answer.json()["server"]["id"])
    world.made.append(server)
    world.wait_for_status(server, "running", seconds=60)


def trace(world: World, *arguments: str, code: int = 0) -> shell.Result:
    """What an operator types: deploy/manage trace ..."""
    return shell.run(
        [state.CHECKOUT / "deploy" / "manage", "trace", *arguments],
        timeout=60,
        env={"CUMULET_STATE": str(world.cloud.instance.state)},
        ok=(code,),
    )


def parsed(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def place(moment: dict[str, Any]) -> str:
    return f"{moment['host']}/{moment['source']}" if moment["host"] else moment["source"]


@pytest.fixture
def request_id(world: World) -> str:
    """The id under which two servers were asked for, one on each host."""
    chosen = f"trace-{uuid.uuid4()}"
    for name in ("followed-1", "followed-2"):
        create(world, name, chosen)
    assert {world.host_of(server).name for server in world.made} == {"h1", "h2"}
    return chosen


def test_a_request_is_followed_from_the_web_to_both_hosts_and_back(
    world: World, request_id: str
) -> None:
    story = parsed(trace(world, request_id, "--json").stdout)
    assert not [moment for moment in story if "missing" in moment]
    times = [moment["time"] for moment in story]
    assert times == sorted(times)
    assert {place(moment) for moment in story} >= {
        "row",
        "web",
        "control",
        "h1/agent",
        "h2/agent",
    }
    sources = [moment["source"] for moment in story]
    assert sources.index("row") < sources.index("agent") < sources.index("control")
    assert sources.index("row") < sources.index("web")
    lines = [json.dumps(moment, sort_keys=True) for moment in story]
    assert len(lines) == len(set(lines))

    told = trace(world, request_id).stdout
    assert told.startswith(f"Request {request_id}, from ")
    assert "h1/agent" in told
    assert len(told.splitlines()) > len(story)


def test_every_host_answers_for_its_own_logs_and_a_silent_one_is_named(
    world: World, request_id: str
) -> None:
    # The control user may not read the operator's logs: all lines come from the hosts.
    (output,) = world.cloud.manage([["trace", request_id, "--json"]])
    *remote, missing = parsed(output)
    assert {place(moment) for moment in remote} >= {"row", "web", "h1/agent", "h2/agent"}
    assert missing["missing"].endswith("cannot be read (Permission denied)")

    h2 = world.cloud.hosts[1]
    world.cloud.supervisor.stop(h2.agent)
    told = trace(world, request_id).stdout
    assert told.splitlines()[-1] == "Missing: h2 did not answer: its part is missing"


def test_an_unknown_id_and_a_malformed_one_are_told_apart(world: World) -> None:
    unknown = trace(world, f"nobody-{uuid.uuid4()}", code=1)
    assert "no row and no log knows request nobody-" in unknown.stderr
    malformed = trace(world, "two words", code=1)
    assert "is no request id: those are up to 128 letters" in malformed.stderr
