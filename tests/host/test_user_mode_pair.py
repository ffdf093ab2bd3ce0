"""Guests of a host without any privilege: among themselves, and through what leads them outside.

Two guests for all tests: whatever is killed here, afterwards both are as they were.
"""

from __future__ import annotations

import pytest

from tests.host.rootless import NIC, RootlessWorld
from tests.host.user_mode import (
    kill,
    network,
    outlet_pid,
    pings,
    private_nic,
    says,
    status,
    switch_pid,
)
from tests.host.world import second, until
from vms.spec import VmSpec

pytestmark = pytest.mark.rootless

HEAL_SECONDS = 15.0
# One small process for each guest; most of that is Python's and libslirp's own code, in memory
# once.
OUTLET_KIB = 32 * 1024


@pytest.fixture
def rootless(shared_rootless: RootlessWorld) -> RootlessWorld:
    return shared_rootless


@pytest.fixture(scope="module")
def pair(shared_rootless: RootlessWorld) -> tuple[VmSpec, VmSpec]:
    """Two guests in one network; each is reached by a port of its own."""
    world = shared_rootless
    world.tell(network(world))
    first = world.spec(nics=(NIC, private_nic(2)))
    beside = second(world.spec())
    other = world.spec(vm_id=beside.vm_id, uuid=beside.uuid, nics=(*beside.nics, private_nic(3)))
    for spec in (first, other):
        assert world.ensure(spec).converged
    for spec in (first, other):
        world.wait_for_boots(spec, 1)
    return first, other


def test_guests_of_one_network_are_neighbours(
    rootless: RootlessWorld, pair: tuple[VmSpec, VmSpec]
) -> None:
    first, other = pair
    assert pings(rootless, first, "10.0.1.3")
    assert private_nic(3).mac in says(rootless, first, "ip neigh show dev eth1")
    assert pings(rootless, other, "10.0.1.2")


def test_nothing_of_the_host_has_any_capability(
    rootless: RootlessWorld, pair: tuple[VmSpec, VmSpec]
) -> None:
    first, _ = pair
    qemu = rootless.process(first)
    assert qemu
    pids = (rootless.agent_pid, qemu.pid, switch_pid(rootless), outlet_pid(rootless, first))
    for pid in pids:
        seen = status(pid)
        assert (seen["CapEff"], seen["CapPrm"]) == ("0" * 16, "0" * 16), seen["Name"]
        assert seen["Uid"].split() == [str(rootless.guests_uid)] * 4


def test_a_way_outside_is_a_small_process_that_can_gain_nothing(
    rootless: RootlessWorld, pair: tuple[VmSpec, VmSpec]
) -> None:
    spec, _ = pair
    seen = status(outlet_pid(rootless, spec))
    assert int(seen["VmRSS"].split()[0]) < OUTLET_KIB
    assert seen["NoNewPrivs"] == "1"


def test_usage_is_counted_in_the_guests_own_directions(
    rootless: RootlessWorld, pair: tuple[VmSpec, VmSpec]
) -> None:
    spec, _ = pair
    with rootless.watched():
        said = says(rootless, spec, "head -c 300000 /dev/zero | base64")
        until(
            lambda: any(
                (usage.network_bandwidth_out or 0) > (usage.network_bandwidth_in or 0) > 0
                for report in rootless.usage_reports
                for usage in report.usages
            ),
            "more went out than came in",
        )
    assert len(said) > 300000


def test_a_restarted_agent_disturbs_nothing(
    rootless: RootlessWorld, pair: tuple[VmSpec, VmSpec]
) -> None:
    first, _ = pair
    before = switch_pid(rootless), outlet_pid(rootless, first), rootless.process(first)
    rootless.restart_agent()
    with rootless.watched():
        assert rootless.ensure(first).converged
    assert (switch_pid(rootless), outlet_pid(rootless, first), rootless.process(first)) == before
    assert pings(rootless, first, "10.0.1.3")


def test_guests_go_on_when_their_switch_was_killed(
    rootless: RootlessWorld, pair: tuple[VmSpec, VmSpec]
) -> None:
    """Their NICs stay as they are: it is the cable behind them that is plugged in anew."""
    first, other = pair
    looks = "cat /sys/class/net/eth1/carrier_changes /sys/class/net/eth1/ifindex"
    before = [says(rootless, one, looks) for one in pair]
    processes = [rootless.process(one) for one in pair]
    with rootless.watched():
        killed = switch_pid(rootless)
        kill(killed)
        until(lambda: pings(rootless, first, "10.0.1.3"), "they ping", seconds=HEAL_SECONDS)
        until(lambda: pings(rootless, other, "10.0.1.2"), "and back", seconds=HEAL_SECONDS)
    assert switch_pid(rootless) != killed
    assert [says(rootless, one, looks) for one in pair] == before
    assert [rootless.process(one) for one in pair] == processes


def test_a_guest_is_led_outside_again_when_that_process_was_killed(
    rootless: RootlessWorld, pair: tuple[VmSpec, VmSpec]
) -> None:
    spec, _ = pair
    before = rootless.process(spec)
    with rootless.watched():
        killed = outlet_pid(rootless, spec)
        kill(killed)
        until(
            lambda: says(rootless, spec, "hostname").strip() == "web-1",
            "the guest is reached",
            seconds=HEAL_SECONDS,
        )
    assert outlet_pid(rootless, spec) != killed
    assert rootless.process(spec) == before


def test_after_a_reboot_everything_comes_back(
    rootless: RootlessWorld, pair: tuple[VmSpec, VmSpec]
) -> None:
    first = pair[0]
    rootless.stop_agent()
    for one in pair:
        process = rootless.process(one)
        assert process
        kill(process.pid)
        kill(outlet_pid(rootless, one))
    kill(switch_pid(rootless))
    rootless.start_agent()
    with rootless.watched():
        for one in pair:
            rootless.wait_for_boots(one, 1)
        until(lambda: pings(rootless, first, "10.0.1.3"), "they ping")
