"""Guests of a host without any privilege: among themselves, and through what leads them outside."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from msgspec import structs

from networks.host import outlets
from networks.spec import ForwardSpec, NetworkRemoval
from tests.host.rootless import NIC, RootlessWorld
from tests.host.user_mode import (
    NETWORK,
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
from vms.spec import PowerGoal, VmSpec

pytestmark = pytest.mark.rootless

HEAL_SECONDS = 15.0
# One small process for each guest; most of that is Python's and libslirp's own code, in memory
# once.
OUTLET_KIB = 32 * 1024


@pytest.fixture
def pair(rootless: RootlessWorld) -> tuple[VmSpec, VmSpec]:
    """Two guests in one network; each is reached by a port of its own."""
    rootless.tell(network(rootless))
    first = rootless.boot(nics=(NIC, private_nic(2)))
    other = second(rootless.spec())
    nics = (*other.nics, private_nic(3))
    return first, rootless.boot(vm_id=other.vm_id, uuid=other.uuid, nics=nics)


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


def test_a_way_outside_is_a_small_process_that_can_gain_nothing(rootless: RootlessWorld) -> None:
    spec = rootless.boot()
    seen = status(outlet_pid(rootless, spec))
    assert int(seen["VmRSS"].split()[0]) < OUTLET_KIB
    assert seen["NoNewPrivs"] == "1"


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
    rootless: RootlessWorld,
) -> None:
    spec = rootless.boot()
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


def test_a_guest_joins_and_leaves_a_network_while_it_runs(rootless: RootlessWorld) -> None:
    rootless.tell(network(rootless))
    spec = rootless.boot()
    joined = structs.replace(spec, generation=4, nics=(*spec.nics, private_nic(2)))
    assert rootless.ensure(joined).converged
    until(lambda: private_nic(2).mac in says(rootless, spec, "ip link"), "the NIC is there")
    left = structs.replace(joined, generation=5, nics=spec.nics)
    with rootless.watched():
        rootless.ensure(left)
        until(lambda: rootless.reported(generation=5, converged=True), "the NIC is gone")
    assert private_nic(2).mac not in says(rootless, spec, "ip link")


def test_ports_come_and_go_while_the_guest_runs(rootless: RootlessWorld) -> None:
    spec = rootless.boot()
    process, outlet = rootless.process(spec), outlet_pid(rootless, spec)
    more = (*NIC.forwards, ForwardSpec("tcp", 30100, 22))
    changed = structs.replace(spec, generation=4, nics=(structs.replace(NIC, forwards=more[1:]),))
    assert rootless.ensure(changed).converged
    assert rootless.ssh(changed, "hostname").stdout.strip() == "web-1"
    assert rootless.ssh(spec, "hostname").code == 255
    assert (rootless.process(spec), outlet_pid(rootless, spec)) == (process, outlet)


def test_a_port_that_is_taken_is_named(rootless: RootlessWorld) -> None:
    with socket.socket() as other:
        other.bind(("192.0.2.11", 30007))
        other.listen()
        failure = rootless.ensure(rootless.spec()).failure
    assert failure
    assert failure.code == "forward_port_taken"
    assert "30007/tcp" in failure.message
    assert rootless.ensure(structs.replace(rootless.spec(), generation=4)).converged


def test_what_only_a_privileged_host_can_give_is_refused(rootless: RootlessWorld) -> None:
    limited = structs.replace(NIC, mbit_out=10)
    failure = rootless.ensure(rootless.spec(nics=(limited,))).failure
    assert failure
    assert failure.code == "network_mode_unsupported"


def test_nothing_is_left_of_a_guest_and_its_network(rootless: RootlessWorld) -> None:
    rootless.tell(network(rootless))
    spec = rootless.spec(nics=(NIC, private_nic(2)))
    assert rootless.ensure(spec).converged
    outlet, switch = outlet_pid(rootless, spec), switch_pid(rootless)
    assert rootless.ensure(structs.replace(spec, generation=4, power=PowerGoal.OFF)).converged
    assert outlets.find(rootless.host.paths.vm(7).outlet(0)) is None
    assert not rootless.remove(spec, generation=5).present
    gone = rootless.tell(NetworkRemoval(NETWORK, rootless.host.uuid, 2))
    assert (gone.present, gone.converged) == (False, True)
    assert not _lives(outlet)
    assert not _lives(switch)
    assert not any(rootless.host.paths.gateways.iterdir())
    assert not any(rootless.host.paths.outlets.iterdir())


def test_usage_is_counted_in_the_guests_own_directions(rootless: RootlessWorld) -> None:
    with rootless.watched():
        spec = rootless.boot()
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


def test_a_heartbeat_says_what_the_host_can_give(rootless: RootlessWorld) -> None:
    report = rootless.facts()
    assert report.network_mode == "vde"
    assert (report.forward_ip, report.forward_ports) == ("192.0.2.11", (30000, 30999))
    assert report.public_ranges == ()
    # /dev/kvm is there where these tests are run, or it is not.
    forbidden = Path("/dev/kvm").exists() and Path("/dev/kvm").stat().st_mode & 0o006 != 0o006
    mending = {one.code: one.message for one in report.problems}
    assert "manage.py host_add h1 --again" in mending.pop("no_certificate")
    if forbidden:
        assert "sudo usermod -aG kvm cumulet-rootless" in mending.pop("kvm_forbidden")
    assert not mending


def _lives(pid: int) -> bool:
    """A zombie, which nobody reaps here, has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False
