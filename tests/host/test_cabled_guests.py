"""Real guests of hosts of both kinds in one private network, which know nothing of that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec import structs

from networks.spec import NicSpec, SubnetSpec
from tests.documents import SPEC
from tests.host.cabled_cloud import CabledNetwork
from tests.host.rootless import NIC, RootlessWorld
from tests.host.wire import arrives, capture
from tests.host.world import World
from vms.spec import VmSpec

pytestmark = [pytest.mark.private, pytest.mark.rootless]

ONE, OTHER, MESHED = "10.0.1.11", "10.0.3.12", "10.0.1.14"
# The second one of other tests is that between a guest in user mode and its host.
SUBNETS = (SubnetSpec("10.0.1.0/24", "10.0.1.1"), SubnetSpec("10.0.3.0/24", "10.0.3.1"))
FAR = "203.0.113.249"


@pytest.fixture
def network(cabled_hosts: list[World]) -> CabledNetwork:
    """The gateway has no member, and lets the others out into the world."""
    one, other, gateway, meshed = cabled_hosts
    made = CabledNetwork(5, {"egress": True, "subnets": SUBNETS}, hub=gateway)
    elsewhere = structs.replace(
        made.nic("10.0.1.12", index=1), ipv4=OTHER, gateway=SUBNETS[1].gateway
    )
    made.placed = [
        (one, made.nic(ONE, index=1)),
        (other, elsewhere),
        (meshed, made.nic(MESHED, index=1)),
    ]
    made.tell()
    return made


@pytest.fixture
def far(cabled_hosts: list[World]) -> Iterator[None]:
    world = cabled_hosts[0]
    world.outside("ip", "address", "add", FAR, "dev", "lo")
    yield
    world.outside("ip", "address", "del", FAR, "dev", "lo")


def start(world: World, private: NicSpec) -> VmSpec:
    """Each is reached from outside in the way of its host as well."""
    public = NIC if isinstance(world, RootlessWorld) else SPEC.nics[0]
    first = structs.replace(public, mac=f"02:00:00:00:01:0{world.number}")
    spec = world.spec(nics=(first, private), hostname=f"vm-{world.number}")
    with world.inside():
        report = world.ensure(spec)
    assert report.converged, report
    return spec


def test_guests_of_both_kinds_of_hosts_share_a_subnet_and_a_gateway(
    network: CabledNetwork, far: None
) -> None:
    started = [(world, start(world, nic)) for world, nic in network.placed]
    for world, spec in started:
        world.wait_for_boots(spec, 1)
    (world, spec), *_ = started

    def says(command: str) -> str:
        return str(world.ssh(spec, command).stdout)

    assert says("cat /sys/class/net/eth1/mtu").strip() == "1390"
    for address in (MESHED, OTHER):
        assert " 0% packet loss" in says(f"ping -c3 -s {1390 - 28} {address}")
    assert network.placed[2][1].mac in says("ip neigh show dev eth1")
    # The other one is in another subnet, so it is reached by way of the gateway.
    assert "10.0.1.1" in says(f"ip route get {OTHER}")
    assert says(f"ip route add {FAR} via 10.0.1.1 && ping -c2 {FAR}").count("seq=") == 2
    with capture(world) as fabric:
        says(f"ping -c2 -p 63756d756c65743f {OTHER} || ping -c2 {OTHER}")
        assert not arrives(fabric, bytes.fromhex("63756d756c65743f"))
