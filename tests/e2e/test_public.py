"""Servers look like machines of their own from outside: pages, firewalls, addresses that move.

All of it with real guests on several hosts, behind hosts that route and in the hosts' bridges.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hcloud.firewalls import FirewallResource, FirewallRule
from hcloud.floating_ips import BoundFloatingIP

from deploy import lab
from tests.e2e import outside
from tests.e2e.bridges import addresses, bridged, first, operator, project, site
from tests.e2e.outside import answers_http, calling, echoes, page, pinging, serves
from tests.e2e.world import World, until

pytestmark = pytest.mark.public

ANYBODY = ["0.0.0.0/0", "::/0"]
MOVE_LOSES = 20
DHCP_LAN, DHCP_GATEWAY, LEASES = "10.78.0.0/24", "10.78.0.1", "10.78.0.50,10.78.0.60"


def rule(port: str, sources: list[str] = ANYBODY) -> FirewallRule:
    return FirewallRule(direction="in", protocol="tcp", port=port, source_ips=sources)


SSH, WEB, ECHO = rule("22"), rule("80"), rule("7")
PING = FirewallRule(direction="in", protocol="icmp", source_ips=ANYBODY)


@pytest.fixture(scope="module", params=["routed", "bridged"])
def around(shared_world: World, request: pytest.FixtureRequest) -> Iterator[World]:
    """The cloud as a project sees it, in either mode. Bridged: its pools are on the hosts' wire."""
    if request.param == "routed":
        yield shared_world
        return
    lan = [outside.LAN, "--gateway", outside.LAN_GATEWAY]
    lan6 = [outside.LAN6, "--gateway", outside.LAN_GATEWAY6]
    with outside.lan(shared_world), bridged(shared_world):
        yield project(shared_world, "office", lan, lan6)


@pytest.fixture
def anywhere(world: World, around: World) -> Iterator[World]:
    yield around
    around.delete_all()


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


@pytest.mark.parametrize("kind", ["ipv4", "ipv6"])
def test_a_floating_ip_moves_to_another_host_and_loses_hardly_a_packet(
    anywhere: World, kind: str, tmp_path: Path
) -> None:
    log = tmp_path / "ping"
    with floating(anywhere, kind) as ip:
        address = str(ip.ip) if kind == "ipv4" else first(str(ip.ip))
        configured = (
            f"ip address add {address}/32 dev lo\n"
            if kind == "ipv4"
            else f"ip address add {address}/64 dev eth0\n"
        )
        old, new = (site(anywhere, name, more=configured) for name in ("one", "two"))
        for server in (old, new):
            serves(anywhere, addresses(server)[0], server.name)
        assert anywhere.host_of(old) != anywhere.host_of(new)
        anywhere.api.floating_ips.assign(ip, old).wait_until_finished()
        serves(anywhere, address, "one")
        with pinging(anywhere, address, log):
            anywhere.api.floating_ips.assign(ip, new).wait_until_finished()
            until(lambda: page(anywhere, address) == "two", "it moved", seconds=2)
        assert outside.lost(log) <= MOVE_LOSES
        anywhere.api.floating_ips.unassign(ip).wait_until_finished()
        assert page(anywhere, address) == ""


def test_what_a_guest_forges_is_seen_by_nobody_and_counted(anywhere: World) -> None:
    server = site(anywhere, "forger")
    four, _ = addresses(server)
    anywhere.wait_for_ssh(server)
    stranger = f"{four.rpartition('.')[0]}.250"
    with outside.hearing(anywhere, outside.says(stranger)) as heard:
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

    # One that starts tells everything at once; one that runs tells it within a minute.
    monitor = anywhere.host_of(server).monitor
    anywhere.cloud.supervisor.stop(monitor)
    anywhere.cloud.supervisor.start(monitor)
    until(counted, "the count is shown", seconds=30)


@pytest.mark.parametrize("around", ["bridged"], indirect=True)
def test_the_outside_network_s_own_dhcp_gives_the_address_that_control_then_shows(
    anywhere: World, tmp_path: Path
) -> None:
    leasing = project(anywhere, "leasing", [DHCP_LAN, "--gateway", DHCP_GATEWAY, "--dhcp"])
    with outside.dhcp(anywhere, DHCP_GATEWAY, LEASES, tmp_path), clean(leasing):
        server = site(leasing, "leased")

        def learned() -> str:
            server.reload()
            net = server.public_net
            return str(net.ipv4.ip) if net and net.ipv4 else ""

        until(lambda: learned().startswith("10.78.0."), "control knows", seconds=60)
        serves(leasing, learned(), "leased")


def finish(actions: list[Any]) -> None:
    for action in actions:
        action.wait_until_finished()


@contextmanager
def floating(world: World, kind: str) -> Iterator[BoundFloatingIP]:
    home = world.api.locations.get_by_name("lab")
    ip = world.api.floating_ips.create(type=kind, home_location=home, name="vip").floating_ip
    try:
        with clean(world):
            yield ip
    finally:
        world.api.floating_ips.delete(ip)


@contextmanager
def clean(world: World) -> Iterator[None]:
    """Whatever happens, none of its servers is left."""
    try:
        yield
    finally:
        world.delete_all()
