"""Servers look like machines of their own from outside: pages, firewalls, addresses that move.

All of it with real guests on several hosts, behind hosts that route and in the hosts' bridges.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hcloud.firewalls import FirewallResource, FirewallRule
from hcloud.floating_ips import BoundFloatingIP
from hcloud.servers import BoundServer, ServerCreatePublicNetwork

from deploy import guests, lab
from tests.e2e import outside
from tests.e2e.outside import answers_http, calling, echoes, page, pinging, serves
from tests.e2e.world import World, until

pytestmark = pytest.mark.public

# An echo on port 7 beside the page; both families.
SITE = """#!/bin/sh
mkdir /tmp/www && hostname >/tmp/www/index.html
httpd -p 80 -h /tmp/www
httpd -p 8080 -h /tmp/www
nc -ll -p 7 -e cat &
"""
ANYBODY = ["0.0.0.0/0", "::/0"]
MOVE_LOSES = 20
DHCP_LAN, DHCP_GATEWAY, LEASES = "10.78.0.0/24", "10.78.0.1", "10.78.0.50,10.78.0.60"


def rule(port: str, sources: list[str] = ANYBODY) -> FirewallRule:
    return FirewallRule(direction="in", protocol="tcp", port=port, source_ips=sources)


SSH, WEB, ECHO = rule("22"), rule("80"), rule("7")
PING = FirewallRule(direction="in", protocol="icmp", source_ips=ANYBODY)


@pytest.fixture
def routed(world: World) -> World:
    return world


@pytest.fixture(scope="session")
def office(shared_world: World) -> World:
    """The cloud as a project sees it that borrows from the network on the hosts' wire."""
    return project(
        shared_world,
        "office",
        [outside.LAN, "--gateway", outside.LAN_GATEWAY],
        [outside.LAN6, "--gateway", lab.ROUTER6],
    )


@pytest.fixture
def bridged(world: World, office: World) -> Iterator[World]:
    """All hosts are bridged."""
    with ExitStack() as stack:
        stack.enter_context(outside.lan(world))
        stack.callback(bridge, world, on=False)
        bridge(world, on=True)
        stack.callback(office.delete_all)
        yield office


@pytest.fixture(params=["routed", "bridged"])
def anywhere(request: pytest.FixtureRequest) -> World:
    chosen: World = request.getfixturevalue(request.param)
    return chosen


def bridge(world: World, *, on: bool) -> None:
    """As an operator does it: the agents and monitors start with another setting."""
    cloud = world.cloud
    for host in cloud.hosts:
        wanted = replace(host, bridge=on)
        cloud.supervisor.apply(wanted.programs(cloud.release))
        cloud.supervisor.start(host.agent, host.monitor)
    for host in cloud.hosts:
        until(
            lambda host=host: ("br-cumulet" in world.links(host)) is on,
            f"{host.name} is {'' if on else 'not '}bridged",
            seconds=60,
        )
    mode = "bridged" if on else "routed"
    until(lambda: set(network_modes(world)) == {mode}, "control knows", seconds=60)


def operator(world: World, path: str) -> Any:
    """An answer that only operators get."""
    token = (world.cloud.instance.state / "token").read_text().strip()
    answer = httpx.get(
        f"{world.cloud.instance.api_url}/{path}",
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )
    answer.raise_for_status()
    return answer.json()


def network_modes(world: World) -> list[str]:
    return [host["network_mode"] for host in operator(world, "hosts")["hosts"]]


def project(world: World, name: str, *pools: list[str]) -> World:
    """A project with bridged pools of its own. They stay, as their addresses have a history."""
    token = world.cloud.manage([["token_add", name, "test"]])[0].split()[-1]
    for number, pool in enumerate(pools):
        kind = ("--location", "lab", "--owner", name, "--mode", "bridged")
        world.cloud.manage([["pool_add", f"{name}-{number}", *pool, *kind]])
    api = guests.client(world.cloud.instance, token)
    key = guests.ensure_registered_key(world.cloud.instance, api)
    return World(world.cloud, api, key)


def site(world: World, name: str, **order: Any) -> BoundServer:
    """A server with a page of its own, not yet up."""
    return world.create(name, user_data=SITE + order.pop("more", ""), wait=False, **order)


def addresses(server: BoundServer) -> tuple[str, str]:
    """IPv4, and the first address of its IPv6 network."""
    net = server.public_net
    assert net
    assert net.ipv4
    assert net.ipv6
    return str(net.ipv4.ip), f"{net.ipv6.ip.removesuffix('/64')}1"


def test_servers_on_one_host_and_on_another_all_serve_port_80(anywhere: World) -> None:
    names = [f"web-{number}" for number in range(len(anywhere.cloud.hosts) + 1)]
    servers = [site(anywhere, name) for name in names]
    for server in servers:
        for address in addresses(server):
            serves(anywhere, address, server.name)
    hosts = [anywhere.host_of(server).name for server in servers]
    assert 1 < len(set(hosts)) < len(hosts)
    for host in anywhere.cloud.hosts:
        assert outside.answers(anywhere, lab.uplink_address(host.number))


def test_a_hosts_own_address_answers_while_it_becomes_bridged_and_back(
    world: World, tmp_path: Path
) -> None:
    log = tmp_path / "ping"
    server = site(world, "steady")
    serves(world, addresses(server)[0], "steady")
    with pinging(world, lab.uplink_address(1), log):
        bridge(world, on=True)
        serves(world, addresses(server)[0], "steady")
        bridge(world, on=False)
    assert outside.lost(log) <= 3
    for address in addresses(server):
        serves(world, address, "steady")


def test_a_firewall_is_changed_under_a_running_server(anywhere: World) -> None:
    server = site(anywhere, "guarded")
    four, six = addresses(server)
    serves(anywhere, four, "guarded")
    firewall = anywhere.api.firewalls.create("f", rules=[SSH, WEB, ECHO]).firewall
    resource = FirewallResource(type=FirewallResource.TYPE_SERVER, server=server)
    try:
        finish(anywhere.api.firewalls.apply_to_resources(firewall, [resource]))
        assert page(anywhere, four) == page(anywhere, six) == "guarded"
        assert page(anywhere, four, 8080) == page(anywhere, six, 8080) == ""
        assert not outside.answers(anywhere, four)
        with calling(anywhere, four, 7) as kept, calling(anywhere, four, 80) as cut:
            assert echoes(kept, b"before")
            finish(anywhere.api.firewalls.set_rules(firewall, [SSH, ECHO, PING]))
            assert echoes(kept, b"during")
            assert not answers_http(cut)
        assert page(anywhere, four) == page(anywhere, six) == ""
        assert outside.answers(anywhere, four)
        finish(anywhere.api.firewalls.remove_from_resources(firewall, [resource]))
        for address in (four, six):
            assert page(anywhere, address, 8080) == "guarded"
    finally:
        anywhere.delete_all()
        anywhere.api.firewalls.delete(firewall)


def test_a_firewall_follows_labels(world: World) -> None:
    server = site(world, "labelled")
    four, _ = addresses(server)
    serves(world, four, "labelled")
    selector = FirewallResource(
        type=FirewallResource.TYPE_LABEL_SELECTOR, label_selector={"selector": "env=closed"}
    )
    firewall = world.api.firewalls.create("by-label", rules=[SSH], resources=[selector]).firewall
    try:
        world.api.servers.update(server, labels={"env": "closed"})
        until(lambda: page(world, four) == "", "it is closed", seconds=10)
        world.api.servers.update(server, labels={})
        serves(world, four, "labelled")
    finally:
        world.delete_all()
        world.api.firewalls.delete(firewall)


@pytest.mark.parametrize("kind", ["ipv4", "ipv6"])
def test_a_floating_ip_moves_to_another_host_and_loses_hardly_a_packet(
    anywhere: World, kind: str, tmp_path: Path
) -> None:
    log = tmp_path / "ping"
    with floating(anywhere, kind) as ip:
        address = str(ip.ip) if kind == "ipv4" else f"{str(ip.ip).removesuffix('/64')}1"
        configured = (
            f"ip address add {address}/32 dev lo\n"
            if kind == "ipv4"
            else f"ip address add {address}/64 dev eth0\n"
        )
        first, second = (site(anywhere, name, more=configured) for name in ("one", "two"))
        for server in (first, second):
            serves(anywhere, addresses(server)[0], server.name)
        assert anywhere.host_of(first) != anywhere.host_of(second)
        anywhere.api.floating_ips.assign(ip, first).wait_until_finished()
        serves(anywhere, address, "one")
        with pinging(anywhere, address, log):
            anywhere.api.floating_ips.assign(ip, second).wait_until_finished()
            until(lambda: page(anywhere, address) == "two", "it moved", seconds=2)
        assert outside.lost(log) <= MOVE_LOSES
        anywhere.api.floating_ips.unassign(ip).wait_until_finished()
        assert page(anywhere, address) == ""


def test_a_primary_ip_outlives_its_server_and_serves_from_another_host(world: World) -> None:
    server = site(world, "mortal")
    four, _ = addresses(server)
    serves(world, four, "mortal")
    (ip,) = [one for one in world.api.primary_ips.get_all() if one.ip == four]
    world.api.primary_ips.update(ip, auto_delete=False)
    before = world.host_of(server).name
    world.api.servers.delete(server).wait_until_finished()
    world.wait_for_status(server, "gone")
    others = [site(world, f"filler-{number}") for number in range(2)]
    heir = site(world, "heir", public_net=ServerCreatePublicNetwork(ipv4=ip))
    assert addresses(heir)[0] == four
    serves(world, four, "heir")
    history = operator(world, f"addresses/{four}/history")["history"]
    assert [tenure["server"]["name"] for tenure in history[:2]] == ["heir", "mortal"]
    assert {world.host_of(one).name for one in (*others, heir)} >= {before}
    world.delete_all()
    world.api.primary_ips.delete(ip)


def test_what_a_guest_forges_is_seen_by_nobody_and_counted(anywhere: World) -> None:
    server = site(anywhere, "forger")
    four, _ = addresses(server)
    anywhere.wait_for_ssh(server)
    stranger = f"{four.rpartition('.')[0]}.250"
    with outside.hearing(anywhere, stranger) as heard:
        anywhere.ssh(
            server,
            f"ip address add {stranger}/32 dev eth0;"
            f" ping -c 3 -W 1 -I {stranger} {lab.ROUTER}; arping -c 2 -s {stranger} -I eth0"
            f" {lab.ROUTER}; true",
        )
        assert page(anywhere, four) == "forger"
    assert not heard()

    def counted() -> bool:
        hosts = [host["id"] for host in operator(anywhere, "hosts")["hosts"]]
        nics = [nic for host in hosts for nic in operator(anywhere, f"hosts/{host}/nics")["nics"]]
        (mine,) = [nic for nic in nics if nic["server"]["name"] == "forger"]
        return bool(mine["dropped"].get("ipv4") and mine["dropped"].get("arp"))

    until(counted, "the count is shown", seconds=90)


def test_the_outside_network_s_own_dhcp_gives_the_address_that_control_then_shows(
    bridged: World, tmp_path: Path
) -> None:
    leasing = project(bridged, "leasing", [DHCP_LAN, "--gateway", DHCP_GATEWAY, "--dhcp"])
    with outside.dhcp(bridged, DHCP_GATEWAY, LEASES, tmp_path):
        server = site(leasing, "leased")

        def learned() -> str:
            server.reload()
            net = server.public_net
            return str(net.ipv4.ip) if net and net.ipv4 else ""

        until(lambda: learned().startswith("10.78.0."), "control knows", seconds=60)
        serves(leasing, learned(), "leased")
        leasing.delete_all()


def finish(actions: list[Any]) -> None:
    for action in actions:
        action.wait_until_finished()


@contextmanager
def floating(world: World, kind: str) -> Iterator[BoundFloatingIP]:
    home = world.api.locations.get_by_name("lab")
    ip = world.api.floating_ips.create(type=kind, home_location=home, name="vip").floating_ip
    yield ip
    world.delete_all()
    world.api.floating_ips.delete(ip)
