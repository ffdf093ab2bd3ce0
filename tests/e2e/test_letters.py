"""What nobody can take, and what does not get there in time, ends where its user sees why."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hcloud import APIException
from hcloud.actions import ActionFailedException
from kombu import Connection, Exchange

from cloud.broker import HOSTS_EXCHANGE, LANELESS, REPORTS
from deploy import broker
from tests.e2e.world import World, until

pytestmark = pytest.mark.faults


def letters(world: World, **query: str) -> list[dict[str, Any]]:
    token = (world.cloud.instance.state / "token").read_text().strip()
    answer = httpx.get(
        f"{world.cloud.instance.api_url}/dead_letters",
        params=query,
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()["dead_letters"]
    return found


def put(world: World, exchange: str, key: str, body: bytes, **headers: str) -> None:
    with Connection(broker.url(world.cloud.instance)) as connection:
        connection.Producer().publish(
            body,
            exchange=Exchange(exchange, "topic", no_declare=True),
            routing_key=key,
            headers=headers,
            content_type="application/json",
            content_encoding="utf-8",
            auto_declare=False,
        )


def test_poison_in_the_queues_of_a_running_cloud_is_told_and_stops_nobody(world: World) -> None:
    server = world.create("beside", wait=False)
    host = world.cloud.hosts[0].name
    put(world, REPORTS, "report", b"\x00 no json", task="reports.vm", id="poison-1")
    put(world, HOSTS_EXCHANGE, f"host.{host}", b"5", task="vms.ensure", id="poison-2")
    until(lambda: letters(world, queue=LANELESS), "the report is a letter", seconds=30)
    until(lambda: letters(world, host=host), "so is the document", seconds=30)
    assert "not JSON" in letters(world, queue=LANELESS)[0]["explanation"]
    assert "not a list of arguments" in letters(world, host=host)[0]["explanation"]
    world.wait_for_status(server, "running", seconds=60)


def test_an_action_that_missed_its_deadline_names_its_host_and_the_server_goes_on(
    world: World,
) -> None:
    server = world.create("waiting")
    host = world.host_of(server)
    world.cloud.supervisor.stop(host.agent, host.monitor)
    action = world.api.servers.power_off(server)
    until(lambda: world.row_of(host)["status"] == "silent", "its host is silent", seconds=60)
    world.let_the_deadline_pass(action)
    with pytest.raises(ActionFailedException) as failed:
        action.wait_until_finished(max_retries=240)
    error = failed.value.action.error
    assert error is not None
    assert error["code"] == "timeout"
    assert f"told {host.name} at" in error["message"]
    assert f"Host {host.name} has not answered since" in error["message"]

    # It was asked for, so it is carried out once that can be.
    world.cloud.supervisor.start(host.agent, host.monitor)
    world.wait_for_status(server, "off", seconds=90)
    world.api.servers.power_on(server).wait_until_finished(max_retries=240)
    world.api.servers.delete(server)
    world.wait_for_status(server, "gone", seconds=60)
    with pytest.raises(APIException, match="not found"):
        world.api.servers.get_by_id(server.id)
