"""What a guest of a host without privileges cannot reach, and what other users of it cannot."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud import shell
from deploy import accounts
from networks.host import outlets
from networks.spec import USER_GATEWAY, USER_RESOLVER
from tests.host.rootless import BROKER, RootlessWorld
from tests.host.user_mode import NETWORK, Ears, listening, network, outlet_pid, says
from tests.host.world import until
from vms.spec import VmSpec

pytestmark = pytest.mark.rootless

FAR = "203.0.113.200"
# Broker, database and Flower, a name server, and something else.
PORTS = (5672, 5432, 5555, 53, 8080)
_CONNECT = """
import socket, sys
for path in sys.argv[1:]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            socket.socket(socket.AF_UNIX, kind).connect(path)
        except PermissionError:
            continue
        except OSError as error:
            print(path, error)
        else:
            print(path, "connected")
"""


def resolver() -> str:
    """Of the host, which names are asked of."""
    lines = Path("/etc/resolv.conf").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("nameserver"))


@pytest.fixture
def rootless(shared_rootless: RootlessWorld) -> RootlessWorld:
    return shared_rootless


@pytest.fixture(scope="module")
def spec(shared_rootless: RootlessWorld) -> VmSpec:
    """A guest that all of this is tried in, and a network beside it."""
    shared_rootless.tell(network(shared_rootless))
    return shared_rootless.boot()


@pytest.fixture
def ears(rootless: RootlessWorld) -> Iterator[Ears]:
    """Real services, wherever a guest must not call, and one far away that it may."""
    outside = [FAR, BROKER]
    host = ["127.0.0.1", "192.0.2.11"]
    (host if resolver().startswith("127.") else outside).append(resolver())
    added = [one for one in outside if one != BROKER] + [BROKER]
    for address in added:
        rootless.outside("ip", "address", "add", f"{address}/32", "dev", "lo")
    places = {
        rootless.lab.outside: [(one, port) for one in outside for port in PORTS]
        + [("192.0.2.1", port) for port in PORTS],
        rootless.namespace: [(one, port) for one in dict.fromkeys(host) for port in PORTS],
    }
    try:
        with listening(places) as made:
            yield made
    finally:
        for address in added:
            rootless.outside("ip", "address", "del", f"{address}/32", "dev", "lo")


def test_a_guest_reaches_the_world_and_nothing_near_its_host(
    rootless: RootlessWorld, spec: VmSpec, ears: Ears
) -> None:
    near = (
        USER_GATEWAY,
        "10.0.2.2",
        "127.0.0.1",
        "192.0.2.11",
        "192.0.2.1",
        BROKER,
        "0.0.0.0",
    )
    # Busybox has TFTP for UDP: it asks whichever port it is told to.
    ways = ("nc", "tftp -g -r x -l /dev/null")
    # What must be heard is called with few others beside it, and the rest at once.
    for addresses in ((FAR,), (USER_RESOLVER,), near):
        called = itertools.product(ways, addresses, PORTS)
        calls = (f"timeout 3 {way} {address} {port}" for way, address, port in called)
        quietly = (f"(echo x | {call}) >/dev/null 2>&1 &" for call in calls)
        says(rootless, spec, f"{' '.join(quietly)} wait")
    allowed = {(FAR, port, kind) for port in PORTS for kind in ("tcp", "udp")}
    names = {(resolver(), 53, kind) for kind in ("tcp", "udp")}
    assert ears.heard == allowed | names
    dropped = outlets.dropped(rootless.host.paths.vm(7).outlet(0))
    assert dropped["protected"] > 0
    assert dropped["resolver"] > 0


def test_a_guest_that_calls_loopback_by_way_of_its_gateway_reaches_nothing(
    rootless: RootlessWorld, spec: VmSpec, ears: Ears
) -> None:
    outlet = rootless.host.paths.vm(7).outlet(0)
    before = outlets.dropped(outlet)["protected"]
    says(
        rootless,
        spec,
        "ip address del 127.0.0.1/8 dev lo; ip link set lo down;"
        f" ip route add 127.0.0.1 via {USER_GATEWAY};"
        " echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet;"
        " echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet;"
        " for port in 5672 5432 5555; do echo x | timeout 2 nc 127.0.0.1 $port; done;"
        " ip route del 127.0.0.1; ip link set lo up",
    )
    assert ears.heard == set()
    assert outlets.dropped(outlet)["protected"] > before


def test_other_users_read_no_disk_and_connect_to_nothing(
    rootless: RootlessWorld, spec: VmSpec
) -> None:
    paths = rootless.host.paths.vm(spec.vm_id)
    switch = rootless.host.paths.switch(NETWORK)
    outlet_pid(rootless, spec)
    sockets = [
        *(paths.qmp, paths.events, paths.guest_agent, paths.frames(0)),
        *(paths.outlet(0) / "frames", switch / "ctl", switch / "console"),
        rootless.host.paths.run / "monitor",
    ]
    until(lambda: all(one.exists() for one in sockets[:-1]), "there is something to connect to")
    files = [paths.disk(0), paths.seed, paths.console, paths.spec, rootless.host.paths.identity]
    for stranger in (accounts.QEMU, accounts.CONTROL):
        said = shell.run([sys.executable, "-c", _CONNECT, *sockets], timeout=30, user=stranger)
        assert said.stdout == ""
        for file in files:
            read = shell.run(["cat", file], timeout=30, user=stranger, ok=range(256))
            assert (read.code, read.stdout) == (1, ""), file
