"""Real guests in one private subnet on several hosts, which know nothing of that."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from msgspec import structs

from cloud import shell
from deploy import lab
from networks.host import namespaces, plan
from networks.spec import NicSpec, RouteSpec
from tests.documents import SPEC
from tests.host.private_cloud import RANGE, Network, tunnel_ip
from tests.host.wire import arrives, capture
from tests.host.world import World, until
from vms.spec import VmReport, VmSpec

pytestmark = pytest.mark.private

FAR = "203.0.113.250"
ONE, OTHER, BEYOND = "10.0.1.11", "10.0.1.12", "10.0.2.12"
MTU = 1500 - plan.WIREGUARD_BYTES - plan.VXLAN_BYTES


@pytest.fixture
def network(hosts: list[World]) -> Network:
    made = Network(5)
    made.placed = [
        (hosts[0], made.nic(ONE, index=1)),
        (hosts[1], made.nic(OTHER, index=1)),
        (hosts[2], made.nic(BEYOND, index=1)),
    ]
    made.tell()
    return made


def public(world: World) -> NicSpec:
    number = world.number
    return structs.replace(
        SPEC.nics[0],
        nic_id=number,
        mac=f"02:00:00:00:01:0{number}",
        ipv4=f"198.51.100.{100 + number}",
    )


def boot(world: World, *private: NicSpec) -> VmSpec:
    with world.inside():
        return world.boot(nics=(public(world), *private), hostname=f"vm-{world.number}")


def ensure(world: World, spec: VmSpec) -> VmReport:
    with world.inside():
        return world.ensure(spec)


def changed(world: World, spec: VmSpec, *nics: NicSpec) -> VmSpec:
    spec = structs.replace(spec, generation=spec.generation + 1, nics=nics)
    report = ensure(world, spec)
    assert report.converged, report
    return spec


def says(world: World, spec: VmSpec, command: str) -> str:
    """What the guest says; every one is reached by its public address."""
    return world.ssh(spec, command).stdout


def pings(world: World, spec: VmSpec, address: str) -> bool:
    return "yes" in says(world, spec, f"ping -c2 -W1 {address} >/dev/null && echo yes; true")


@pytest.fixture
def pair(hosts: list[World], network: Network) -> list[tuple[World, VmSpec]]:
    """Guests on the first two hosts."""
    return [(world, boot(world, nic)) for world, nic in network.placed[:2]]


@pytest.fixture
def far(hosts: list[World]) -> Iterator[None]:
    hosts[0].outside("ip", "address", "add", FAR, "dev", "lo")
    yield
    hosts[0].outside("ip", "address", "del", FAR, "dev", "lo")


def test_guests_of_two_hosts_are_neighbours(
    network: Network, pair: list[tuple[World, VmSpec]]
) -> None:
    (world, spec), _ = pair
    assert pings(world, spec, OTHER)
    assert network.placed[1][1].mac in says(world, spec, "ip neigh show dev eth1")
    assert says(world, spec, "cat /sys/class/net/eth1/mtu").strip() == str(MTU)
    whole = MTU - 28
    assert " 0% packet loss" in says(world, spec, f"ping -c1 -s {whole} {OTHER}")


def test_another_subnet_is_reached_by_way_of_the_gateway(
    network: Network, pair: list[tuple[World, VmSpec]]
) -> None:
    world, spec = pair[0]
    boot(*network.placed[2])
    assert pings(world, spec, BEYOND)
    assert "10.0.1.1" in says(world, spec, f"ip route get {BEYOND}")


def test_a_route_of_the_network_leads_to_a_member(
    network: Network, pair: list[tuple[World, VmSpec]]
) -> None:
    (world, spec), (router_world, router) = pair
    says(router_world, router, "ip address add 172.20.0.1/32 dev lo")
    network.settings["routes"] = (RouteSpec("172.20.0.0/24", OTHER),)
    network.tell()
    says(world, spec, "ip route add 172.20.0.0/24 via 10.0.1.1")
    assert pings(world, spec, "172.20.0.1")


def test_egress_is_under_the_hosts_own_address_and_only_where_it_is_switched_on(
    hosts: list[World], network: Network, pair: list[tuple[World, VmSpec]], far: None
) -> None:
    world, spec = pair[0]
    says(world, spec, f"ip route add {FAR} via 10.0.1.1 dev eth1")
    assert not pings(world, spec, FAR)
    network.settings["egress"] = True
    network.tell()
    with capture(world) as outside:
        assert pings(world, spec, FAR)
        assert arrives(outside, IPv4Address(lab.uplink_address(1)).packed)
    network.settings["egress"] = False
    network.tell()
    assert not pings(world, spec, FAR)


def test_no_way_leads_through_the_gateway_to_the_underlay_the_broker_or_the_host(
    hosts: list[World], network: Network, pair: list[tuple[World, VmSpec]]
) -> None:
    network.settings["egress"] = True
    network.tell()
    twin = Network(6, {"egress": True})
    twin.placed = [(hosts[0], twin.nic("10.0.1.77"))]
    twin.tell()
    world, spec = pair[0]
    with twin.placed[0][0].inside():
        link = world.seen("ip", "-4", "-o", "address", "show", plan.names(6).exit)
    forbidden = [
        lab.CONTROL,
        *(lab.uplink_address(number) for number in (1, 2, 3)),
        *(tunnel_ip(host) for host in hosts[:2]),
        link.split()[3].partition("/")[0],
        "10.0.1.77",
        "172.31.1.1",
    ]
    for address in forbidden:
        says(world, spec, f"ip route add {address}/32 via 10.0.1.1 dev eth1")
    reached = says(
        world,
        spec,
        f"for a in {' '.join(forbidden)}; do"
        " ping -c1 -W1 -I eth1 $a >/dev/null && echo $a; done; true",
    )
    assert reached.split() == []


def test_two_networks_of_one_range_both_reach_the_world(
    hosts: list[World], network: Network, far: None
) -> None:
    """Their members have the same address on the same host."""
    network.settings["egress"] = True
    network.tell()
    twin = Network(6, {"egress": True})
    twin.placed = [(hosts[0], twin.nic(ONE, index=1))]
    twin.tell()
    first = boot(hosts[0], network.placed[0][1])
    with hosts[0].inside():
        nic = structs.replace(public(hosts[0]), nic_id=9, mac="02:00:00:00:01:09")
        nic = structs.replace(nic, ipv4="198.51.100.109")
        other = world_boot(hosts[0], 9, nic, twin.placed[0][1])
    for spec in (first, other):
        says(hosts[0], spec, f"ip route add {FAR} via 10.0.1.1 dev eth1")
        assert pings(hosts[0], spec, FAR)


def world_boot(world: World, number: int, *nics: NicSpec) -> VmSpec:
    return world.boot(vm_id=number, uuid=world.uuid(number), nics=nics)


def test_a_nic_comes_and_goes_while_the_guest_runs(hosts: list[World], network: Network) -> None:
    world, nic = network.placed[0]
    spec = boot(world)
    process = world.process(spec)
    spec = changed(world, spec, public(world), nic)
    until(lambda: ONE in says(world, spec, "ip address show dev eth1"), "it has its address")
    assert says(world, spec, "cat /sys/class/net/eth1/mtu").strip() == str(MTU)
    assert RANGE in says(world, spec, "ip route")
    assert pings(world, spec, "10.0.1.1")
    spec = structs.replace(spec, generation=spec.generation + 1, nics=(public(world),))
    ensure(world, spec)
    until(lambda: ensure(world, spec).converged, "the guest has let go of it", seconds=20)
    assert "eth1" not in says(world, spec, "ip link")
    assert "cu7-1" not in world.seen("ip", "link")
    spec = changed(world, spec, public(world), nic)
    until(lambda: ONE in says(world, spec, "ip address"), "it has its address again")
    assert world.process(spec) == process


def test_a_server_whose_network_is_not_known_yet_goes_on_when_it_is(hosts: list[World]) -> None:
    network = Network(5)
    network.placed = [(hosts[0], network.nic(ONE, index=1))]
    with hosts[0].inside():
        spec = hosts[0].spec(nics=(public(hosts[0]), network.placed[0][1]))
        failure = hosts[0].ensure(spec).failure
    assert failure
    assert (failure.code, failure.retryable) == ("network_unknown", True)
    (report,) = network.tell()
    assert report.converged
    assert hosts[0].told(spec).converged


def test_restarts_of_the_monitor_interrupt_nothing(pair: list[tuple[World, VmSpec]]) -> None:
    world, spec = pair[0]
    heard: list[str] = []
    pinging = threading.Thread(
        target=lambda: heard.append(says(world, spec, f"ping -c60 -i0.1 -W1 {OTHER}"))
    )
    assert pings(world, spec, OTHER)
    pinging.start()
    for _ in range(3):
        with world.inside(), world.watched():
            until(lambda: world.heartbeats, "it works")
    pinging.join()
    assert "60 packets received" in heard[0]


def test_a_host_that_was_rebooted_makes_its_networks_and_guests_again(
    hosts: list[World], network: Network, pair: list[tuple[World, VmSpec]]
) -> None:
    world, spec = pair[0]
    before = world.process(spec)
    assert before
    # What a reboot leaves of them: nothing but the documents.
    keeper = namespaces.find(world.host.paths.gateway(5))
    for pid in (before.pid, keeper):
        assert pid
        os.kill(pid, signal.SIGKILL)
    for name in ("cb5", "cv5", "cu7-0", "cu7-1"):
        world.seen("ip", "link", "del", name)
    shell.run([*world.lab.enter(world.namespace), "nft", "flush", "ruleset"], timeout=10)
    with world.inside(), world.watched():
        until(lambda: world.process(spec), "QEMU is there")
        world.wait_for_boots(spec, 1)
        until(lambda: pings(world, spec, OTHER), "its neighbour is there")
