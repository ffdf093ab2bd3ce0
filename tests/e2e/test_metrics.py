"""Prometheus finds the numbers of control and of every host where they are said to be."""

from __future__ import annotations

import sys

import httpx
from prometheus_client.parser import text_string_to_metric_families

from cloud import shell
from cloud.hostconfig import DEFAULT_METRICS
from deploy.hosts import LabHost
from tests.e2e.world import World, until

READ = f"import urllib.request as r; print(r.urlopen('http://{DEFAULT_METRICS}/metrics').read().decode())"

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]


def of_control(world: World) -> Numbers:
    return numbers(httpx.get(f"{world.cloud.instance.web_url}/metrics").raise_for_status().text)


def of_host(world: World, host: LabHost) -> Numbers:
    """As somebody on the host itself reads them."""
    inside = world.cloud.lab.enter(host.namespace.name)
    return numbers(shell.run([*inside, sys.executable, "-c", READ], timeout=15).stdout)


def numbers(text: str) -> Numbers:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Numbers, name: str, /, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def test_control_answers_for_all_its_processes_and_each_host_for_its_guests(world: World) -> None:
    def created() -> float:
        labels = {"command": "create_server", "result": "success"}
        return value(of_control(world), "cumulet_actions_total", **labels)

    before = created()
    server = world.create("web-1")
    # The worker counts it, the web server tells of it.
    until(lambda: created() == before + 1, "the creation is counted", seconds=10)
    found = of_control(world)
    assert value(found, "cumulet_tasks_total", task="reports.vm", state="SUCCESS") > 0
    route = {"method": "POST", "route": "/v1/servers", "status": "2xx"}
    assert value(found, "cumulet_http_requests_total", **route) > 0
    home = world.host_of(server)
    assert value(found, "cumulet_servers", host=home.name, status="running") == 1
    vm = {"vm": str(server.id), "name": "web-1"}
    for host in world.cloud.hosts:
        assert value(found, "cumulet_host_up", host=host.name) == 1
        there = of_host(world, host)
        assert value(there, "cumulet_vm_up", **vm) == (host == home)
        assert value(there, "cumulet_node_memory_bytes") > 0
