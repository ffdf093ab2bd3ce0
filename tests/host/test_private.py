"""One private switch over several hosts: what crosses, what does not, and what nobody hears."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.lab import Lab
from networks.spec import NicSpec
from tests.host.conftest import a_host, opened
from tests.host.private_cloud import Network, linked, played, tunnel_ip
from tests.host.wire import ARP, BROADCAST, IPV4, Wire, arrives, capture, ip, mac
from tests.host.world import World, until
from vms.spec import ImageSpec

pytestmark = pytest.mark.private

EXPERIMENT = 0x88B5  # IEEE 802, local experiments


@pytest.fixture(scope="module")
def private_lab() -> Iterator[Lab]:
    made = Lab(secrets.token_hex(3))
    made.ensure(3)
    yield made
    made.remove()


@pytest.fixture
def hosts(
    places: Path, private_lab: Lab, micro: ImageSpec, ssh_key: Path
) -> Iterator[list[World]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                opened(World(a_host(places, n), private_lab, micro, ssh_key, number=n))
            )
            for n in (1, 2, 3)
        ]


@pytest.fixture
def network(hosts: list[World]) -> Network:
    """Members on the first two hosts."""
    made = Network(5)
    made.placed = [(hosts[0], made.nic("10.0.1.11")), (hosts[1], made.nic("10.0.1.12"))]
    reports = made.tell()
    assert all(report.converged for report in reports), reports
    return made


@pytest.fixture
def guests(network: Network) -> Iterator[list[Wire]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(played(world, 100 + number, nic))
            for number, (world, nic) in enumerate(network.placed)
        ]


def test_broadcast_multicast_and_unknown_ethertypes_cross_hosts(guests: list[Wire]) -> None:
    one, other = guests
    for to in (BROADCAST, "01:00:5e:00:00:fb", other.nic.mac, "02:00:00:00:99:99"):
        one.send(EXPERIMENT, one.content + mac(to), to=to)
        assert other.hears(EXPERIMENT, one.content + mac(to), seconds=5), to
