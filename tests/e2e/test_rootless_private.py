"""Private networks of hosts without any privilege, among themselves and with others."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest
from hcloud.networks import BoundNetwork
from hcloud.servers import BoundServer

from deploy import processes
from deploy.hosts import DESK, LAB, CloudHost
from tests.e2e import outside
from tests.e2e.test_private import MARKED, PATTERN, network_of, private_ip, reached, reaches, remove
from tests.e2e.world import World, until

pytestmark = pytest.mark.rootless


@pytest.fixture
def network(desk: World) -> Iterator[BoundNetwork]:
    made = network_of(desk.api, "office")
    yield made
    desk.delete_all()
    remove(desk.api, made)


def members(world: World, network: BoundNetwork, *locations: str) -> list[BoundServer]:
    made = []
    for number, name in enumerate(locations):
        world.location = name
        made.append(world.create(f"node-{number}", wait=False, networks=[network]))
    for server in made:
        world.wait_for_ssh(server)
    return made


def switch_of(world: World, host: CloudHost) -> psutil.Process:
    inside = processes.in_namespace(world.cloud.lab.path(world.cloud.lab.namespace(host.name)))
    (switch,) = [process for process in inside if process.name() == "vde_switch"]
    return switch


def test_servers_of_hosts_with_and_without_root_share_a_switch_that_the_fabric_cannot_read(
    desk: World, network: BoundNetwork
) -> None:
    first, second, rooted = members(desk, network, DESK, DESK, LAB)
    assert {desk.host_of(server).rootless for server in (first, second)} == {True}
    assert desk.host_of(first) != desk.host_of(second)
    assert not desk.host_of(rooted).rootless
    everybody = (first, second, rooted)
    for here in everybody:
        for there in everybody:
            if here is not there:
                reached(desk, here, private_ip(there))
    with outside.hearing(desk, lambda frame: MARKED in frame) as readable:
        for there in (second, rooted):
            assert reaches(desk, first, private_ip(there), "-p", PATTERN)
        assert not readable()
    sizes = {desk.ssh(one, "cat /sys/class/net/eth1/mtu").stdout.strip() for one in everybody}
    assert len(sizes) == 1


def test_a_killed_switch_heals_and_its_guests_notice_no_more_than_lost_packets(
    desk: World, network: BoundNetwork
) -> None:
    here, there = members(desk, network, DESK, DESK)
    address = private_ip(there)
    reached(desk, here, address)
    host, boot = desk.host_of(here), desk.boot_id(here)
    card = desk.ssh(here, "cat /sys/class/net/eth1/ifindex").stdout

    switch_of(desk, host).kill()

    until(lambda: reaches(desk, here, address), "the guests meet again", seconds=60)
    assert desk.ssh(here, "cat /sys/class/net/eth1/ifindex").stdout == card
    assert desk.boot_id(here) == boot


def test_a_server_joins_and_leaves_a_network_while_it_runs(
    desk: World, network: BoundNetwork
) -> None:
    (anchor,) = members(desk, network, LAB)
    desk.location = DESK
    late = desk.create("late")
    desk.wait_for_ssh(late)

    desk.api.servers.attach_to_network(late, network).wait_until_finished()
    reached(desk, late, private_ip(anchor))

    desk.api.servers.detach_from_network(late, network).wait_until_finished()
    until(lambda: not reaches(desk, late, private_ip(anchor)), "it left", seconds=30)
    assert desk.status(late) == "running"
