"""A host without privileges for which root once prepared a TAP: its guests have real addresses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from deploy import accounts
from deploy.lab import Lab
from networks.host import switches
from networks.host.switches import Switch
from tests.documents import SPEC
from tests.host.conftest import supplied_rootless_host
from tests.host.rootless import RootlessWorld
from tests.host.user_mode import kill
from tests.host.world import until
from vms.spec import ImageSpec, VmSpec

pytestmark = pytest.mark.rootless

RANGE, ADDRESS, TAP = "198.51.100.64/27", "198.51.100.70", "tap-cloud"
NIC = structs.replace(SPEC.nics[0], ipv4=ADDRESS)


@pytest.fixture
def host(
    places: Path, own_lab: Lab, micro: ImageSpec, image_store: Path, ssh_key: Path
) -> Iterator[RootlessWorld]:
    with supplied_rootless_host(places, own_lab, micro, image_store, ssh_key) as world:
        yield world


def prepare(world: RootlessWorld, user: str = accounts.ROOTLESS) -> None:
    """What root does once."""
    world.seen("ip", "tuntap", "add", TAP, "mode", "tap", "user", user)
    world.seen("ip", "address", "add", "172.31.1.1/32", "dev", TAP)
    world.seen("ip", "link", "set", TAP, "up")
    world.seen("ip", "route", "add", RANGE, "dev", TAP)
    world.seen("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.uplink.proxy_arp=1")


def codes(world: RootlessWorld) -> set[str]:
    """Of what is wrong with the interface; the rest is the machine's and the bundle's."""
    others = {"kvm_forbidden", "no_certificate"}
    return {one.code for one in world.facts().problems} - others


def reached(world: RootlessWorld, spec: VmSpec) -> bool:
    return bool(world.ssh_at(ADDRESS, "hostname").stdout.strip() == spec.hostname)


def test_a_guest_has_a_public_address(host: RootlessWorld) -> None:
    prepare(host)
    assert host.facts().public_ranges == (RANGE,)
    spec = host.boot(nics=(NIC,))
    assert reached(host, spec)
    assert codes(host) == set()
    with host.watched():
        pid = switches.find(Switch(host.host.paths.tap_switch))
        assert pid
        kill(pid)
        until(lambda: reached(host, spec), "the guest is reached again", seconds=20)


def test_an_interface_that_root_made_anew_leads_outside_again(host: RootlessWorld) -> None:
    prepare(host)
    spec = host.boot(nics=(NIC,))
    assert reached(host, spec)
    host.seen("ip", "link", "delete", TAP)
    prepare(host)
    with host.watched():
        until(lambda: reached(host, spec), "the guest is reached again", seconds=20)


def test_what_is_wrong_with_the_interface_is_named_and_heals(host: RootlessWorld) -> None:
    failure = host.ensure(host.spec(nics=(NIC,))).failure
    assert failure
    assert failure.code == "tap_missing"
    assert "deploy/host prepare-tap" in failure.message
    prepare(host)
    host.seen("ip", "link", "set", TAP, "down")
    assert codes(host) == {"tap_down"}
    host.seen("ip", "link", "set", TAP, "up")
    host.seen("ip", "route", "add", RANGE, "dev", TAP)
    assert codes(host) == set()
    assert host.ensure(host.spec(nics=(NIC,), generation=4)).converged


def test_an_interface_that_was_named_must_be_there_and_ours(host: RootlessWorld) -> None:
    host.settings["CUMULET_HOST_TAP"] = TAP
    host.restart_agent()
    assert codes(host) == {"tap_missing"}
    prepare(host, user=accounts.QEMU)
    assert codes(host) == {"tap_foreign"}


def test_an_interface_that_another_program_has_open_is_named(host: RootlessWorld) -> None:
    prepare(host)
    other = Switch(host.host.paths.run / "other", TAP)
    user = ("setpriv", "--reuid", accounts.ROOTLESS, "--regid", accounts.ROOTLESS, "--init-groups")
    uid = host.guests_uid
    owner = switches.Owner(uid, uid, (*host.lab.enter(host.namespace), *user))
    switches.ensure(Switch(other.place, other.tap, owner))
    try:
        assert codes(host) == {"tap_in_use"}
        assert host.facts().public_ranges == ()
    finally:
        switches.remove(other)
    assert codes(host) == set()
