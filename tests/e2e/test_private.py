"""Servers of several hosts in private networks, from the API to real guests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hcloud import Client
from hcloud.networks import BoundNetwork, NetworkSubnet
from hcloud.servers import BoundServer, ServerCreatePublicNetwork

from deploy import control, lab
from deploy.hosts import LabHost
from tests.e2e import bridges, outside
from tests.e2e.world import World, until

pytestmark = pytest.mark.private

RANGE, SUBNET = "10.0.0.0/16", "10.0.1.0/24"
SITE = """#!/bin/sh
mkdir /tmp/www && hostname >/tmp/www/index.html
httpd -p 80 -h /tmp/www
"""
# Of every byte of a ping: what a capture looks for.
PATTERN = "a7"
MARKED = bytes.fromhex(PATTERN) * 16
# Beyond the fabric, which no guest may call.
FAR = "203.0.113.250"
OUTWARD = f"(while sleep 1; do ping -c1 -W1 -p {PATTERN} {FAR}; done) >/dev/null 2>&1 &\n"


@pytest.fixture
def network(world: World) -> Iterator[BoundNetwork]:
    made = network_of(world.api, "net")
    yield made
    world.delete_all()
    remove(world.api, made)


def network_of(api: Client, name: str) -> BoundNetwork:
    subnet = NetworkSubnet(type="cloud", network_zone=zone(api), ip_range=SUBNET)
    return api.networks.create(name=name, ip_range=RANGE, subnets=[subnet])


def remove(api: Client, network: BoundNetwork) -> None:
    api.networks.delete(network)
    until(lambda: network.id not in {one.id for one in api.networks.get_all()}, "gone", seconds=30)


def zone(api: Client) -> str:
    location = api.locations.get_by_name("lab")
    assert location
    return str(location.network_zone)


def private_ip(server: BoundServer) -> str:
    server.reload()
    (net,) = server.private_net or ()
    return str(net.ip)


def change(world: World, network: BoundNetwork, **body: Any) -> None:
    """What the contract has no word for."""
    instance = world.cloud.instance
    token = (instance.state / "token").read_text().strip()
    httpx.put(
        f"{instance.api_url}/networks/{network.id}",
        headers={"Authorization": f"Bearer {token}"},
        json=body,
        timeout=10,
    ).raise_for_status()


def member(
    world: World, name: str, network: BoundNetwork, *, more: str = "", **order: Any
) -> BoundServer:
    """A micro guest with a page of its own; `more`: for its script."""
    return world.create(name, wait=False, networks=[network], user_data=SITE + more, **order)


def reaches(world: World, server: BoundServer, address: str, *options: str) -> bool:
    """Whether the guest gets an answer from there."""
    command = " ".join(("ping", "-c3", "-W1", *options, address))
    return world.ssh(server, f"{command} >/dev/null 2>&1").code == 0


def reached(world: World, server: BoundServer, address: str) -> None:
    until(lambda: reaches(world, server, address), f"{server.name} reaches {address}", seconds=60)


def test_servers_of_three_hosts_share_a_switch_that_the_fabric_cannot_read(
    world: World, network: BoundNetwork
) -> None:
    servers = [member(world, f"node-{number}", network) for number in range(3)]
    for server in servers:
        world.wait_for_ssh(server)
    assert len({world.host_of(server).name for server in servers}) == 3
    first, *others = servers
    for other in others:
        reached(world, first, private_ip(other))
    known = world.ssh(first, "ip neigh show dev eth1").stdout
    for other in others:
        assert private_macs(other)[0] in known
    with outside.hearing(world, lambda frame: MARKED in frame) as readable:
        assert reaches(world, first, private_ip(others[0]), "-p", PATTERN)
        assert not readable()
    assert "mtu 1390" in world.ssh(first, "ip link show eth1").stdout


def private_macs(server: BoundServer) -> list[str]:
    return [str(net.mac_address) for net in server.private_net or ()]


def test_two_projects_with_one_range_never_meet(world: World, network: BoundNetwork) -> None:
    tenant = bridges.project(world, "tenant")
    twin = network_of(tenant.api, "twin")
    try:
        mine = [member(world, f"mine-{number}", network) for number in range(2)]
        theirs = [member(tenant, f"theirs-{number}", twin) for number in range(2)]
        assert {private_ip(one) for one in mine} == {private_ip(one) for one in theirs}
        for group, cloud in ((mine, world), (theirs, tenant)):
            for one in group:
                cloud.wait_for_ssh(one)
            page = f"wget -q -O - http://{private_ip(group[1])}/"
            until(
                lambda cloud=cloud, group=group, page=page: (
                    cloud.ssh(group[0], page).stdout.strip() == group[1].name
                ),
                "each reaches its own",
                seconds=60,
            )
    finally:
        tenant.delete_all()
        remove(tenant.api, twin)


def test_a_running_server_joins_and_leaves_a_network(world: World, network: BoundNetwork) -> None:
    anchor = member(world, "anchor", network)
    guest = world.create("guest", wait=False)
    boot = world.boot_id(guest)
    world.api.servers.attach_to_network(guest, network, ip="10.0.1.77").wait_until_finished()
    assert private_ip(guest) == "10.0.1.77"
    world.wait_for_ssh(anchor)
    reached(world, guest, private_ip(anchor))
    world.api.servers.change_alias_ips(guest, network, ["10.0.1.78"]).wait_until_finished()
    world.ssh(guest, "ip address add 10.0.1.78/24 dev eth1")
    reached(world, anchor, "10.0.1.78")
    world.ssh(guest, "ip address add 10.0.1.79/24 dev eth1")
    assert not reaches(world, guest, private_ip(anchor), "-I", "10.0.1.79")
    world.api.servers.detach_from_network(guest, network).wait_until_finished()
    assert not reaches(world, anchor, "10.0.1.77")
    assert "eth1" not in world.ssh(guest, "ip link").stdout
    assert world.boot_id(guest) == boot


def test_a_server_without_public_address_gets_out_by_way_of_its_host_where_that_is_wanted(
    world: World, network: BoundNetwork
) -> None:
    change(world, network, egress=True)
    hidden = member(
        world,
        "hidden",
        network,
        public_net=ServerCreatePublicNetwork(enable_ipv4=False, enable_ipv6=False),
        more=OUTWARD,
    )
    jump = member(world, "jump", network)
    world.wait_for_ssh(jump)
    reached(world, jump, private_ip(hidden))
    host = lab.uplink_address(world.host_of(hidden).number)

    def is_its_host_s(frame: bytes) -> bool:
        return MARKED in frame and outside.says(host)(frame)

    with outside.beyond(world, FAR), outside.hearing(world, is_its_host_s) as heard:
        until(heard, "it gets out under its host's address", seconds=60)
    change(world, network, egress=False)
    until(lambda: not goes_out(world, is_its_host_s), "it does not any more", seconds=30)


def goes_out(world: World, its: Callable[[bytes], bool]) -> bool:
    """Whether one of such frames comes by in two seconds; the guest sends one in each."""
    with outside.hearing(world, its) as heard:
        time.sleep(2.5)
        return heard()


def test_restarted_agents_and_a_killed_tunnel_end_no_conversation(
    world: World, network: BoundNetwork
) -> None:
    first, second = (member(world, name, network) for name in ("talker", "listener"))
    for server in (first, second):
        world.wait_for_ssh(server)
    reached(world, first, private_ip(second))
    world.ssh(first, f"(ping -i 0.2 -c 100 {private_ip(second)} >/tmp/pings 2>&1 &)")
    for server in (first, second):
        host = world.host_of(server)
        for program in (host.agent, host.monitor):
            world.cloud.supervisor.stop(program)
            world.cloud.supervisor.start(program)
    told = "cat /tmp/pings"
    until(lambda: "transmitted" in world.ssh(first, told).stdout, "pings ended", seconds=60)
    assert " 0% packet loss" in world.ssh(first, told).stdout


def test_a_revoked_host_is_cut_off_within_five_seconds_and_can_be_taken_back(
    world: World, network: BoundNetwork
) -> None:
    first, second = (member(world, name, network) for name in ("inside", "outcast"))
    for server in (first, second):
        world.wait_for_ssh(server)
    address = private_ip(second)
    reached(world, first, address)
    host = world.host_of(second)
    world.cloud.manage([["host_revoke", host.name]])
    try:
        once = f"ping -c1 -W1 {address} >/dev/null"
        until(lambda: world.ssh(first, once).code, "it is cut off", seconds=5)
    finally:
        take_back(world, host)
    reached(world, first, address)


def take_back(world: World, host: LabHost) -> None:
    cloud = world.cloud
    bundle = str(control.bundle(cloud.instance, host.name))
    again = ["host_add", host.name, "--location", "lab", "--again", "--bundle", bundle]
    cloud.manage([again])
    cloud.supervisor.apply(host.programs(cloud.release))
    cloud.supervisor.start(host.agent, host.monitor)
    cloud.wait_for_hosts((cloud.instance.state / "token").read_text().strip())
