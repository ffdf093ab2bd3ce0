"""What a host tells of its private networks, keeps to itself, and mends."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from networks.host import dhcp, namespaces
from tests.host.private_cloud import Network, crosses, played
from tests.host.wire import ARP, ARP_REPLY, IPV4, Wire, ip
from tests.host.world import World, until
from vms.host import facts, leases, networks
from vms.host.host import Host

pytestmark = pytest.mark.private


@pytest.fixture
def network(hosts: list[World]) -> Network:
    made = Network(5)
    made.placed = [(hosts[0], made.nic("10.0.1.11")), (hosts[1], made.nic("10.0.1.12"))]
    made.tell()
    return made


def test_the_key_is_told_and_the_private_one_stays_with_root(hosts: list[World]) -> None:
    world = hosts[0]
    with world.inside():
        report = facts.host_report(world.host)
        again = facts.host_report(world.host)
    assert report.tunnel_key
    assert report.tunnel_key == again.tunnel_key
    assert report.tunnel_endpoint == "192.0.2.11:51820"
    private = world.host.paths.tunnel_key
    assert private.stat().st_mode & 0o777 == 0o600
    assert private.read_text().strip() != report.tunnel_key


def test_a_tunnel_takes_the_key_that_replaces_a_removed_one(
    hosts: list[World], network: Network
) -> None:
    host = hosts[0].host
    tunnel = networks.tunnel_place(host)
    with hosts[0].inside():
        before = networks.tunnel_key(host)
        tunnel.key.unlink()
        after = networks.tunnel_key(host)
        networks.ensure_tunnel(host)
    assert before != after
    assert hosts[0].seen("wg", "show", tunnel.interface, "public-key").strip() == after


def test_a_host_behind_nat_has_no_endpoint(hosts: list[World]) -> None:
    world = hosts[0]
    hidden = Host.open(replace(world.host.config, nat=True))
    with world.inside():
        assert facts.host_report(hidden).tunnel_endpoint is None


def test_a_host_behind_nat_calls_and_is_then_reached(hosts: list[World]) -> None:
    network = Network(5)
    network.placed = [
        (hosts[0], network.nic("10.0.1.11")),
        (hosts[1], network.nic("10.0.1.12")),
    ]
    network.tell(hosts[1], callable=False)  # it is told of no way to the first
    network.tell(hosts[0])
    with played(*network.placed[0]) as hidden, played(*network.placed[1]) as caller:
        until(lambda: crosses(caller, hidden, seconds=1), "it is reached", seconds=30)


def test_a_report_that_the_broker_did_not_take_is_told_when_it_is_back(
    hosts: list[World], network: Network
) -> None:
    world = hosts[0]
    world.broker_away = True
    told = len(world.network_reports)
    network.tell(hosts[0])
    assert len(world.network_reports) == told
    with world.inside(), world.watched():
        world.broker_away = False
        until(
            lambda: world.network_reports[-1].generation == network.generation,
            "it is told",
            seconds=15,
        )


def test_an_old_document_changes_nothing(hosts: list[World], network: Network) -> None:
    old = network.spec(hosts[0])
    network.settings["egress"] = True
    network.tell()
    said = len(hosts[0].network_reports)
    with hosts[0].inside():
        hosts[0].tell(old)
    assert len(hosts[0].network_reports) == said
    assert "ce5" in hosts[0].seen("ip", "-o", "link")


def test_the_same_document_again_changes_nothing(hosts: list[World], network: Network) -> None:
    def seen() -> list[str]:
        return [
            hosts[0].seen(*command.split())
            for command in (
                "ip -o link",
                "bridge fdb",
                "ip neigh show nud permanent",
                "ip route",
                "nft list tables",
            )
        ]

    before = seen()
    assert all(report.converged for report in network.tell())
    assert seen() == before


@pytest.mark.parametrize("victim", ["gateway", "dhcp"])
def test_a_gateway_or_dhcp_server_that_is_killed_is_back(
    hosts: list[World], network: Network, victim: str
) -> None:
    world, nic = network.placed[0]
    with played(world, nic) as guest:
        pid = {
            "gateway": namespaces.find(world.host.paths.gateway(5)),
            "dhcp": dhcp.find(leases.private_place(world.host, 5)),
        }[victim]
        assert pid
        os.kill(pid, signal.SIGKILL)
        with world.inside(), world.watched():
            until(lambda: asks(guest), "it answers", seconds=15)
        guest.arp(sender="10.0.1.11", wanted="10.0.1.1")
        assert guest.hears(ARP, ARP_REPLY)


def asks(guest: Wire) -> bool:
    """Whether it is offered its address."""
    guest.discover()
    return guest.hears(IPV4, ip("10.0.1.11"))
