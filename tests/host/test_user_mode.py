"""A guest of a host without any privilege: its ports, its networks, and what is left of it."""

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
    network,
    outlet_pid,
    private_nic,
    says,
    switch_pid,
)
from tests.host.world import until
from vms.spec import PowerGoal

pytestmark = pytest.mark.rootless


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
