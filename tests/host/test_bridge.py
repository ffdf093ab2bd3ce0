"""The uplink moves into a bridge and back: whole or not at all, and the host stays reachable."""

from __future__ import annotations

import errno
import re
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest
from msgspec import structs
from pyroute2 import IPRoute, NetlinkError

from cloud import shell
from deploy import lab
from deploy.lab import Lab
from networks.host import bridge
from networks.host.bridge_plan import BRIDGE, Change, Operation
from networks.host.interface import CannotBridge
from tests.host.world import World, until
from vms.host import bridging, facts
from vms.host.host import Host

pytestmark = pytest.mark.public

ADDRESS = lab.uplink_address(1)
PING_SECONDS = 0.05
# More than the few milliseconds that the addresses are under way would need.
MOST_LOST = 3
# What a host may have on its uplink beside one address and one route.
FURNITURE = (
    "ip address add 192.0.2.111/24 dev uplink",
    "ip address add 198.51.100.200/25 brd + dev uplink label uplink:w",
    "ip address add 203.0.113.210/32 dev uplink metric 50 noprefixroute",
    "ip address add 2001:db8:ff::11/64 dev uplink",
    "ip route add default via 192.0.2.1 dev uplink metric 500",
    "ip route add 100.64.0.0/10 via 192.0.2.1 dev uplink table 77 src 192.0.2.111 mtu 1300",
    "ip route add 100.64.0.0/24 dev uplink scope link",
    "ip link add guest type veth peer name other",
    "ip link set guest up",
    f"ip route add 203.0.113.77/32 dev guest src {ADDRESS}",
    "ip -6 route add default via 2001:db8:ff::1 dev uplink metric 2048",
    "ip -6 route add 2001:db8:fe::/48 via fe80::1 dev uplink table 78",
    "ip neigh add 192.0.2.99 lladdr 02:00:00:00:00:99 dev uplink nud permanent",
    "sysctl -qw net.ipv4.conf.uplink.rp_filter=1",
)


@pytest.fixture
def host_lab(own_lab: Lab) -> Lab:
    """A lab of this test's own, because its uplink is taken apart."""
    return own_lab


@pytest.fixture
def furnished(bare_world: World) -> World:
    for command in FURNITURE:
        shell.run(command.split(), timeout=5)
    until(lambda: "tentative" not in bare_world.seen("ip", "address"), "addresses are settled")
    return bare_world


@pytest.fixture
def bridged(furnished: World) -> World:
    bridging.ensure(wanting(furnished))
    return furnished


def wanting(world: World, *, bridge: bool = True) -> Host:
    """The host as an operator configures it; opened anew, as at a start of the agent."""
    return Host.open(replace(world.host.config, bridge=bridge))


def state(world: World) -> dict[str, list[str]]:
    """Addresses, routes, links and neighbours of the host, as anybody would look at them."""
    questions = {
        "addresses": "ip -o address",
        "IPv4 routes": "ip -4 route show table all",
        "IPv6 routes": "ip -6 route show table all",
        "links": "ip -o link",
        "neighbours": "ip neigh show nud permanent",
        "delays": "sysctl net.ipv6.conf.uplink.accept_dad net.ipv6.conf.uplink.addr_gen_mode",
    }
    return {
        about: sorted(world.seen(*question.split()).splitlines())
        for about, question in questions.items()
    }


def breaking(operations: Sequence[Operation], number: int) -> Callable[[Change], None]:
    """Makes changes, but for the one of that operation, which the kernel refuses once."""
    victims = [operations[number].do]

    def make(change: Change) -> None:
        if change in victims:
            victims.clear()
            raise NetlinkError(errno.EPERM, "refused")
        with IPRoute() as netlink:
            bridge.Kernel(netlink).make(change)

    return make


def fail_everywhere(world: World, operations: Sequence[Operation]) -> None:
    before = state(world)
    for number, operation in enumerate(operations):
        if operation.do:
            with pytest.raises(bridge.BridgeFailed, match="as it was before"):
                bridge.execute(operations, breaking(operations, number))
            assert state(world) == before, operation.do


def test_whatever_fails_of_the_set_up_all_is_as_before(furnished: World) -> None:
    fail_everywhere(furnished, bridge.joining("uplink"))


def test_whatever_fails_of_the_way_back_the_host_stays_bridged(bridged: World) -> None:
    fail_everywhere(bridged, bridge.leaving("uplink"))


def test_a_set_up_that_was_killed_anywhere_can_be_taken_back(furnished: World) -> None:
    before = state(furnished)
    operations = bridge.joining("uplink")
    for number in range(len(operations)):
        bridge.carry_out([Operation(one.do) for one in operations[:number]])
        bridge.take_back(operations)
        assert state(furnished) == before, operations[number]


def test_addresses_and_routes_move_to_the_bridge_and_back(furnished: World) -> None:
    before = state(furnished)
    bridging.ensure(wanting(furnished))
    after = state(furnished)
    for about in ("addresses", "IPv4 routes", "IPv6 routes", "neighbours"):
        moved = [re.sub(r"\buplink\b", BRIDGE, _without_index(line)) for line in before[about]]
        # A label must be shorter than this one would get, and a port keeps its multicast route.
        moved = [line.replace(f"{BRIDGE}:w", BRIDGE) for line in moved]
        kept = "multicast ff00::/8 dev uplink"
        assert sorted(moved) == sorted(
            _without_index(line).replace(f"{BRIDGE}:w", BRIDGE)
            for line in after[about]
            if not line.startswith(kept)
        )
    bridging.ensure(wanting(furnished, bridge=False))
    assert state(furnished) == before
    assert not furnished.host.paths.bridge.exists()


def _without_index(line: str) -> str:
    return re.sub(r"^\d+: ", "", line)


def test_the_bridge_has_the_uplink_s_mac_also_with_other_ports(bridged: World) -> None:
    before = mac(bridged, "uplink")
    shell.run(["ip", "link", "set", "guest", "address", "00:00:00:00:00:01"], timeout=5)
    shell.run(["ip", "link", "set", "guest", "master", BRIDGE], timeout=5)
    assert mac(bridged, BRIDGE) == mac(bridged, "uplink") == before


def mac(world: World, name: str) -> str:
    return world.seen("ip", "-o", "link", "show", name).split("link/ether ")[1].split()[0]


@pytest.mark.parametrize("way", ["there", "back"])
def test_the_host_s_own_address_answers_throughout(bare_world: World, way: str) -> None:
    if way == "back":
        bridging.ensure(wanting(bare_world))
    count = 60
    ping = ["ping", "-q", "-i", str(PING_SECONDS), "-c", str(count), "-W", "1", ADDRESS]
    outside = bare_world.lab.enter(bare_world.lab.outside)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(shell.run, [*outside, *ping], timeout=30, ok=(0, 1))
        time.sleep(count * PING_SECONDS / 3)
        bridging.ensure(wanting(bare_world, bridge=way == "there"))
        said = answer.result().stdout
    received = re.search(r"(\d+) received", said)
    assert received, said
    lost = count - int(received[1])
    print(f"lost {lost} of {count} echoes, one every {PING_SECONDS} s")
    assert lost <= MOST_LOST


def test_a_restarted_agent_changes_nothing(bridged: World) -> None:
    before = state(bridged)
    bridging.ensure(wanting(bridged))
    bridging.ensure(wanting(bridged))
    assert state(bridged) == before


def test_an_uplink_that_fell_out_of_the_bridge_is_put_back(bridged: World) -> None:
    """As one does whose driver is loaded anew, and whose addresses the distribution sets again."""
    before = state(bridged)
    shell.run(["ip", "link", "set", "uplink", "nomaster"], timeout=5)
    shell.run(["ip", "address", "add", f"{ADDRESS}/24", "dev", "uplink"], timeout=5)
    bridging.ensure(wanting(bridged))
    assert state(bridged) == before
    bridged.outside("ping", "-q", "-c", "1", "-W", "3", ADDRESS)


def test_after_a_reboot_the_host_is_bridged_again_before_its_guests(bare_world: World) -> None:
    bridging.ensure(wanting(bare_world))
    after = state(bare_world)["addresses"]
    # What the distribution sets up, which knows of no bridge.
    shell.run(["ip", "link", "del", BRIDGE], timeout=5)
    shell.run(["ip", "address", "add", f"{ADDRESS}/24", "dev", "uplink"], timeout=5)
    shell.run(["ip", "route", "add", "default", "via", lab.ROUTER], timeout=5)
    bridging.prepare(wanting(bare_world))
    addresses = [line for line in state(bare_world)["addresses"] if "inet " in line]
    assert [_without_index(line) for line in addresses] == [
        _without_index(line) for line in after if "inet " in line
    ]
    assert facts.host_report(bare_world.host).network_mode == "bridged"
    assert facts.host_report(bare_world.host).uplink_ip == ADDRESS


def test_an_agent_that_was_killed_in_the_midst_is_made_good_by_the_next(furnished: World) -> None:
    """What it had begun is on disk, with all that takes it back."""
    host = wanting(furnished)
    operations = bridge.joining("uplink")
    bridging.write(host, "uplink", operations)
    moved = next(
        number
        for number, (one, next_one) in enumerate(pairwise(operations))
        if one.do and next_one.do and (one.do.verb, next_one.do.verb) == ("del", "add")
    )
    bridge.carry_out([Operation(one.do) for one in operations[: moved + 1]])
    assert ADDRESS not in furnished.seen("ip", "-o", "address")
    bridging.prepare(wanting(furnished))
    assert f"{ADDRESS}/24" in furnished.seen("ip", "-o", "address", "show", BRIDGE)


def test_an_agent_that_was_killed_after_the_way_back_takes_nothing_back(furnished: World) -> None:
    before = state(furnished)
    bridging.ensure(wanting(furnished))
    operations = bridge.leaving("uplink")
    bridging.write(furnished.host, "uplink", operations)
    bridge.carry_out(operations)
    bridging.prepare(wanting(furnished, bridge=False))
    assert state(furnished) == before


def test_a_bridge_with_guests_in_it_stays(bridged: World) -> None:
    shell.run(["ip", "link", "set", "guest", "master", BRIDGE], timeout=5)
    before = state(bridged)
    with pytest.raises(bridge.BridgeInUse, match="guest"):
        bridging.ensure(wanting(bridged, bridge=False))
    assert state(bridged) == before


def test_an_uplink_that_cannot_be_moved_whole_is_left_alone(furnished: World) -> None:
    hops = ["nexthop", "via", "192.0.2.1", "nexthop", "via", "192.0.2.2"]
    shell.run(["ip", "route", "add", "100.65.0.0/16", *hops], timeout=5)
    before = state(furnished)
    with pytest.raises(CannotBridge, match=r"100\.65\.0\.0/16"):
        bridging.ensure(wanting(furnished))
    assert state(furnished) == before
    bridging.prepare(wanting(furnished))
    assert facts.host_report(furnished.host).network_mode == "routed"


def test_a_bridged_nic_on_a_host_that_is_not_bridged_says_what_to_set(world: World) -> None:
    spec = world.spec()
    nic = structs.replace(spec.nics[0], mode="public_bridged", prefix4=24, gateway="198.51.100.1")
    failure = world.ensure(structs.replace(spec, nics=(nic,))).failure
    assert failure
    assert (failure.code, failure.retryable) == ("host_not_bridged", False)
    assert "CUMULET_HOST_BRIDGE=on" in failure.message
    assert not bridge.exists()


def test_a_routed_guest_is_reached_also_after_its_host_was_bridged(world: World) -> None:
    spec = world.boot(uuid=str(uuid.uuid4()))
    process = world.process(spec)
    world.host = wanting(world)
    bridging.ensure(world.host)
    assert world.ensure(spec).converged
    assert world.ssh(spec, "hostname").stdout.strip() == "web-1"
    assert world.process(spec) == process
