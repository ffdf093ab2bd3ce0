"""The same end state whatever fails on the way: a host away, the broker gone, messages lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network

import pytest
from hcloud import APIException

from deploy import broker, guests
from deploy.hosts import LAB
from deploy.sites import POOLS
from tests.e2e.world import World, until

pytestmark = pytest.mark.first_vm


def test_a_server_deleted_while_it_is_created_leaves_nothing(world: World) -> None:
    server = world.create("short-lived", wait=False)
    world.api.servers.delete(server)
    world.wait_for_status(server, "gone")
    until(lambda: not world.leftovers(), "hosts are clean", seconds=60)


def test_while_its_host_is_away_a_server_stays_deleting_and_keeps_its_address(
    world: World,
) -> None:
    server = world.create("stranded")
    address, host = guests.address(server), world.host_of(server)
    world.cloud.supervisor.stop(host.agent, host.monitor)

    world.api.servers.delete(server)
    time.sleep(7)  # two sweeps
    assert world.status(server) == "deleting"
    other = world.create("neighbour", wait=False)
    assert guests.address(other) != address

    world.cloud.supervisor.start(host.agent, host.monitor)
    world.wait_for_status(server, "gone", seconds=60)


def test_a_server_ordered_while_the_broker_is_down_runs_once_it_is_back(world: World) -> None:
    instance, supervisor = world.cloud.instance, world.cloud.supervisor
    supervisor.stop(broker.NAME)
    try:
        server = world.create("patient", wait=False)
        assert world.status(server) == "initializing"
    finally:
        supervisor.start(broker.NAME)
        supervisor.wait(broker.NAME, lambda: broker.ready(instance), seconds=90)
    broker.purge_all(instance)
    world.wait_for_status(server, "running", seconds=90)
    world.wait_for_ssh(server)


def test_lost_messages_delay_a_server_and_do_not_lose_it(world: World) -> None:
    agents = [host.agent for host in world.cloud.hosts]
    world.cloud.supervisor.stop(*agents)
    server = world.create("unheard", wait=False)
    broker.purge_all(world.cloud.instance)
    world.cloud.supervisor.start(*agents)
    world.wait_for_status(server, "running", seconds=90)


def test_the_last_address_goes_to_exactly_one_of_two_parallel_creates(world: World) -> None:
    _lend_only(world, 1)
    try:
        with ThreadPoolExecutor(2) as threads:
            results = list(threads.map(lambda n: _try_create(world, f"racer-{n}"), range(2)))
        assert sorted(results) == ["created", "resource_unavailable"]
    finally:
        _lend_only(world, None)


def _try_create(world: World, name: str) -> str:
    try:
        world.create(name, wait=False)
    except APIException as error:
        return str(error.code)
    return "created"


def _lend_only(world: World, count: int | None) -> None:
    """Leave so many IPv4 addresses to lend in all pools; None: as a new cloud has it."""
    commands = []
    pools = [pool for pool in POOLS if ip_network(pool.cidr).version == 4]
    for number, pool in enumerate(pools):
        every = [str(address) for address in ip_network(pool.cidr).hosts()]
        excluded = list(pool.reserved)
        if count is not None:
            excluded = every[: len(every) - count] if number == 0 else every
        command = ["pool_add", pool.name, pool.cidr, "--location", LAB, "--exclude"]
        commands.append([*command, *excluded])
    world.cloud.manage(commands)
