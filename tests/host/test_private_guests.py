"""Real guests in one private subnet on several hosts, which know nothing of that.

Two guests for all tests, and others beside them where one has to start or end.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
def hosts(shared_hosts: list[World]) -> list[World]:
    return shared_hosts


@pytest.fixture(scope="module")
def members(shared_hosts: list[World]) -> Network:
    made = Network(5)
    addresses = (ONE, OTHER, BEYOND)
    made.placed = [
        (world, made.nic(address, index=1))
        for world, address in zip(shared_hosts, addresses, strict=True)
    ]
    made.tell()
    return made


@pytest.fixture
def network(members: Network) -> Iterator[Network]:
    """Without egress or routes; what a test changes is taken back."""
    placed = list(members.placed)
    yield members
    if members.settings or members.placed != placed:
        members.settings.clear()
        members.placed = placed
        members.tell()


def public(number: int) -> NicSpec:
    return structs.replace(
        SPEC.nics[0],
        nic_id=number,
        mac=f"02:00:00:00:01:{number:02x}",
        ipv4=f"198.51.100.{100 + number}",
    )


def start(world: World, *private: NicSpec) -> VmSpec:
    nics = (public(world.number), *private)
    spec = world.spec(nics=nics, hostname=f"vm-{world.number}")
    report = ensure(world, spec)
    assert report.converged, report
    return spec


@contextmanager
def beside(world: World, number: int, *private: NicSpec) -> Iterator[VmSpec]:
    """A guest of one test, on a host that may have others; `number`: of the server, from 4."""
    nics = (public(number), *private)
    with world.inside():
        spec = world.boot(vm_id=number, uuid=world.uuid(number), nics=nics)
    yield spec
    with world.inside():
        assert not world.remove(spec, generation=10**9).present


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


@pytest.fixture(scope="module")
def pair(members: Network) -> list[tuple[World, VmSpec]]:
    """Guests on the first two hosts."""
    made = [(world, start(world, nic)) for world, nic in members.placed[:2]]
    for world, spec in made:
        world.wait_for_boots(spec, 1)
    return made


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
    start(*network.placed[2])
    until(lambda: pings(world, spec, BEYOND), "it answers")
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
    says(world, spec, f"ip route del {FAR}")


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
        " (ping -c1 -W1 -I eth1 $a >/dev/null && echo $a) & done; wait",
    )
    assert reached.split() == []
    for address in forbidden:
        says(world, spec, f"ip route del {address}/32 via 10.0.1.1 dev eth1")
    twin.leave(world)


def test_two_networks_of_one_range_both_reach_the_world(
    hosts: list[World], network: Network, pair: list[tuple[World, VmSpec]], far: None
) -> None:
    """Their members have the same address on the same host."""
    network.settings["egress"] = True
    network.tell()
    twin = Network(7, {"egress": True})
    twin.placed = [(hosts[0], twin.nic(ONE, index=1))]
    twin.tell()
    world, first = pair[0]
    with beside(world, 9, twin.placed[0][1]) as other:
        for spec in (first, other):
            says(world, spec, f"ip route add {FAR} via 10.0.1.1 dev eth1")
            assert pings(world, spec, FAR)
    says(world, first, f"ip route del {FAR}")
    twin.leave(world)


def test_a_nic_comes_and_goes_while_the_guest_runs(hosts: list[World], network: Network) -> None:
    world, address = hosts[2], "10.0.1.18"
    network.placed.append((world, network.nic(address, index=1)))
    network.tell()
    outside, nic = public(8), network.placed[-1][1]
    with beside(world, 8) as spec:
        process = world.process(spec)
        spec = changed(world, spec, outside, nic)
        until(
            lambda: address in says(world, spec, "ip address show dev eth1"), "it has its address"
        )
        assert says(world, spec, "cat /sys/class/net/eth1/mtu").strip() == str(MTU)
        assert RANGE in says(world, spec, "ip route")
        assert pings(world, spec, "10.0.1.1")
        spec = structs.replace(spec, generation=spec.generation + 1, nics=(outside,))
        ensure(world, spec)
        until(lambda: ensure(world, spec).converged, "the guest has let go of it", seconds=20)
        assert "eth1" not in says(world, spec, "ip link")
        assert "cu8-1" not in world.seen("ip", "link")
        spec = changed(world, spec, outside, nic)
        until(lambda: address in says(world, spec, "ip address"), "it has its address again")
        assert world.process(spec) == process


def test_a_server_whose_network_is_not_known_yet_goes_on_when_it_is(hosts: list[World]) -> None:
    world, network = hosts[2], Network(8)
    network.placed = [(world, network.nic(ONE, index=1))]
    nics = (public(6), network.placed[0][1])
    spec = world.spec(vm_id=6, uuid=world.uuid(6), nics=nics)
    failure = ensure(world, spec).failure
    assert failure
    assert (failure.code, failure.retryable) == ("network_unknown", True)
    (report,) = network.tell()
    assert report.converged
    assert world.told(spec).converged


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
