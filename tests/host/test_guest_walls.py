"""What a guest with a public address cannot call: its host, the other hosts, and control.

Real services listen wherever broker, database, Flower or a host's metrics could be, on every
address that a host has; a guest calls them all. `test_user_mode_walls` and `test_private_guests` do
so on hosts without root, and by way of a private network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud import shell
from deploy import lab
from networks.spec import ROUTED_GATEWAY, NicSpec
from tests.host.conftest import a_lab, supplied_world
from tests.host.test_public import BRIDGED, ROUTED
from tests.host.user_mode import Ears, listening
from tests.host.world import World
from vms.spec import ImageSpec, VmSpec

pytestmark = [pytest.mark.public, pytest.mark.faults]

# Broker and its management, database, Flower, web, a host's metrics, tunnel and cables.
PORTS = (5672, 15672, 5432, 5555, 8000, 9723, 51820, 51821)
FAR, FAR6 = "203.0.113.250", "2001:db8:ffff::1"
TUNNEL, OTHER_HOST = "100.64.0.9", "192.0.2.12"
UPLINK, UPLINK6 = lab.uplink_address(1), lab.uplink_address6(1)
OF_HOST = (UPLINK, UPLINK6, TUNNEL, ROUTED_GATEWAY, "127.0.0.1", "::1")
OF_FABRIC = (lab.CONTROL, OTHER_HOST)


@pytest.fixture(scope="module", params=[ROUTED, BRIDGED], ids=["routed", "bridged"])
def nic(request: pytest.FixtureRequest) -> NicSpec:
    found: NicSpec = request.param
    return found


@pytest.fixture(scope="module")
def world(
    places: Path, micro: ImageSpec, image_store: Path, ssh_key: Path, nic: NicSpec
) -> Iterator[World]:
    """A lab of its own, because one takes its uplink apart."""
    with a_lab() as made, supplied_world(places, made, micro, image_store, ssh_key) as world:
        if nic is BRIDGED:
            world.become_bridged()
        yield world


@pytest.fixture(scope="module")
def guest(nic: NicSpec, world: World) -> VmSpec:
    return world.boot(nics=(nic,))


@pytest.fixture
def ears(guest: VmSpec, world: World) -> Iterator[Ears]:
    for address in (FAR, FAR6, OTHER_HOST):
        world.outside("ip", "address", "replace", address, "dev", "lo")
    for address in (TUNNEL, ROUTED_GATEWAY):
        # The gateway's may be there already, on the guest's link.
        add = [*world.lab.enter(world.namespace), "ip", "address", "add", address, "dev", "lo"]
        shell.run(add, timeout=10, ok=(0, 2))
    places = {
        world.lab.outside: [(one, port) for one in (FAR, FAR6, *OF_FABRIC) for port in PORTS],
        world.namespace: [(one, port) for one in OF_HOST for port in PORTS],
    }
    with listening(places) as made:
        yield made


def test_a_guest_calls_the_world_and_nothing_of_the_cloud(
    world: World, guest: VmSpec, ears: Ears
) -> None:
    # Loopback is the guest's own; the next test leads it outside.
    near = [one for one in (*OF_HOST, *OF_FABRIC) if one not in ("127.0.0.1", "::1")]
    called = [f"{address} {port}" for address in (FAR, FAR6, *near) for port in PORTS]
    # All at once, with time for a guest of a busy machine to start them.
    calls = (f"(echo x | timeout 6 nc {one}) >/dev/null 2>&1 &" for one in called)
    world.ssh(guest, f"{' '.join(calls)} wait")
    assert ears.heard == {(one, port, "tcp") for one in (FAR, FAR6) for port in PORTS}


def test_a_guest_that_sends_loopback_to_its_gateway_reaches_nothing(
    world: World, guest: VmSpec, nic: NicSpec, ears: Ears
) -> None:
    world.ssh(
        guest,
        "ip address del 127.0.0.1/8 dev lo; ip link set lo down;"
        f" ip route add 127.0.0.1 via {nic.gateway} dev eth0 onlink;"
        " echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet;"
        " echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet;"
        f" for port in {' '.join(map(str, PORTS))}; do echo x | timeout 1 nc 127.0.0.1 $port; done;"
        " ip route del 127.0.0.1; ip link set lo up",
    )
    assert ears.heard == set()
