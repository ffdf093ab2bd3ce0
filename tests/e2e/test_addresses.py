"""What belongs to a server from outside: its addresses beyond its life, its firewalls by label."""

from __future__ import annotations

from pathlib import Path

import pytest
from hcloud.firewalls import FirewallResource, FirewallResourceLabelSelector, FirewallRule
from hcloud.servers import ServerCreatePublicNetwork

from deploy import lab
from tests.e2e import outside
from tests.e2e.bridges import addresses, bridged, operator, site
from tests.e2e.outside import page, pinging, serves
from tests.e2e.world import World, until

pytestmark = pytest.mark.public

SSH = FirewallRule(direction="in", protocol="tcp", port="22", source_ips=["0.0.0.0/0", "::/0"])


def test_a_hosts_own_address_answers_while_it_becomes_bridged_and_back(
    world: World, tmp_path: Path
) -> None:
    log = tmp_path / "ping"
    server = site(world, "steady")
    serves(world, addresses(server)[0], "steady")
    with pinging(world, lab.uplink_address(1), log), bridged(world):
        serves(world, addresses(server)[0], "steady")
    assert outside.lost(log) <= 3
    for address in addresses(server):
        serves(world, address, "steady")


def test_a_firewall_follows_labels(world: World) -> None:
    server = site(world, "labelled")
    four, _ = addresses(server)
    serves(world, four, "labelled")
    selector = FirewallResource(
        type=FirewallResource.TYPE_LABEL_SELECTOR,
        label_selector=FirewallResourceLabelSelector("env=closed"),
    )
    firewall = world.api.firewalls.create("by-label", rules=[SSH], resources=[selector]).firewall
    try:
        world.api.servers.update(server, labels={"env": "closed"})
        until(lambda: page(world, four) == "", "it is closed", seconds=10)
        world.api.servers.update(server, labels={})
        serves(world, four, "labelled")
    finally:
        for action in world.api.firewalls.remove_from_resources(firewall, [selector]):
            action.wait_until_finished()
        world.api.firewalls.delete(firewall)


def test_a_primary_ip_outlives_its_server_and_serves_from_another_host(world: World) -> None:
    server = site(world, "mortal")
    four, _ = addresses(server)
    serves(world, four, "mortal")
    (ip,) = [one for one in world.api.primary_ips.get_all() if one.ip == four]
    world.api.primary_ips.update(ip, auto_delete=False)
    before = world.host_of(server).name
    world.api.servers.delete(server).wait_until_finished()
    world.wait_for_status(server, "gone")
    for number in range(2):
        site(world, f"filler-{number}")
    heir = site(world, "heir", public_net=ServerCreatePublicNetwork(ipv4=ip))
    assert addresses(heir)[0] == four
    serves(world, four, "heir")
    history = operator(world, f"addresses/{four}/history")["history"]
    holders = [tenure["server"]["name"] for tenure in history if tenure["server"]]
    assert holders[:2] == ["heir", "mortal"]
    assert world.host_of(heir).name != before
    world.delete_all()
    world.api.primary_ips.delete(ip)
