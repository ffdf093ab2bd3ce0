"""What nobody owns on a host's network is found; it is removed only where it is surely ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec import structs

from cloud import shell
from networks.host import nics
from networks.host.links import Tap
from networks.host.nics import Surroundings
from networks.spec import Presence
from tests.documents import SPEC
from tests.host.world import World, until
from vms.drift.spec import StrayRemoval, StraySpec
from vms.host import store, strays
from vms.host.leftovers import Leftovers
from vms.spec import PowerGoal

pytestmark = pytest.mark.public

NIC = structs.replace(SPEC.nics[0], ipv6="2001:db8:a:7::/64")
TAP = Tap("cu7-0", NIC, None)


@pytest.fixture
def world(world: World) -> Iterator[World]:
    yield world
    for name in ("cu7-0", "tap-mine"):
        shell.run(["ip", "link", "del", name], timeout=5, ok=(0, 1))
    shell.run(["ip", "neigh", "flush", "proxy"], timeout=5, ok=(0, 1))
    nics.remove_nics(["cu7-0"], (), world.host.surroundings)


def test_what_a_lost_vm_left_is_told_once_and_gone_the_second_time(world: World) -> None:
    around = world.host.surroundings
    nics.ensure_nics([TAP], around)
    leftovers = Leftovers(world.host)
    leftovers.sweep()
    assert leftovers.told == ("interface cu7-0", "proxy 198.51.100.7", "proxy 2001:db8:a:7::1")
    assert nics.presence([TAP], around) is Presence.ALL
    leftovers.sweep()
    assert leftovers.told == ()
    assert nics.presence([TAP], around) is Presence.NONE
    assert "198.51.100.7" not in world.seen("ip", "neigh", "show", "proxy")
    assert "2001:db8:a:7::1" not in world.seen("ip", "neigh", "show", "proxy")


def test_rules_without_an_interface_go(world: World) -> None:
    nics.ensure_nics([TAP], world.host.surroundings)
    shell.run(["ip", "link", "del", "cu7-0"], timeout=5)
    leftovers = Leftovers(world.host)
    leftovers.sweep()
    assert "rules cu7-0" in leftovers.told
    leftovers.sweep()
    assert "cu7-0" not in world.seen("nft", "list", "ruleset")
    assert leftovers.told == ()


def test_what_somebody_else_made_is_told_and_stays(world: World) -> None:
    shell.run(["ip", "tuntap", "add", "tap-mine", "mode", "tap"], timeout=5)
    answer = ["ip", "neigh", "add", "proxy", "203.0.113.88", "dev", "uplink"]
    shell.run(answer, timeout=5)
    leftovers = Leftovers(world.host)
    for _ in range(3):
        leftovers.sweep()
        assert leftovers.told == (
            "interface tap-mine (not ours)",
            "proxy 203.0.113.88 (not ours)",
        )
    assert "tap-mine" in world.seen("ip", "-o", "link")
    shell.run([*answer[:2], "del", *answer[3:]], timeout=5)


def test_the_interface_of_another_host_in_the_same_namespace_stays(world: World) -> None:
    nics.ensure_nics([TAP], Surroundings("uplink", host="another"))
    leftovers = Leftovers(world.host)
    for _ in range(3):
        leftovers.sweep()
    assert nics.presence([TAP], Surroundings("uplink", host="another")) is Presence.ALL


def test_a_vm_s_own_links_are_no_leftovers(world: World) -> None:
    world.ensure(world.spec(nics=(NIC,)))
    leftovers = Leftovers(world.host)
    for _ in range(2):
        leftovers.sweep()
        assert leftovers.told == ()


def test_a_document_that_cannot_be_read_makes_nothing_a_leftover(world: World) -> None:
    spec = world.spec(power=PowerGoal.OFF)
    world.ensure(spec)
    nics.ensure_nics([TAP], world.host.surroundings)
    document = world.host.paths.vm(7).spec
    kept = document.read_bytes()
    document.write_bytes(b"{")
    leftovers = Leftovers(world.host)
    for _ in range(2):
        leftovers.sweep()
    assert nics.presence([TAP], world.host.surroundings) is Presence.ALL
    document.write_bytes(kept)
    assert store.spec(world.host.paths.vm(7)) == spec


def test_a_server_that_is_off_has_no_links_left_of_an_interface_that_it_lost(world: World) -> None:
    """Its address may be lent again as soon as the host says that it is done."""
    around = world.host.surroundings
    spec = world.spec(power=PowerGoal.OFF, nics=(NIC,))
    world.ensure(spec)
    nics.ensure_nics([TAP], around)
    report = world.ensure(structs.replace(spec, generation=spec.generation + 1, nics=()))
    assert report.converged
    assert nics.presence([TAP], around) is Presence.NONE
    assert "198.51.100.7" not in world.seen("ip", "neigh", "show", "proxy")


def test_leftovers_are_told_with_the_heartbeat(world: World) -> None:
    shell.run(["ip", "tuntap", "add", "tap-mine", "mode", "tap"], timeout=5)
    with world.watched():
        until(
            lambda: world.heartbeats and world.heartbeats[-1].leftovers,
            "the heartbeat tells of it",
            seconds=20,
        )
    assert world.heartbeats[-1].leftovers == ("interface tap-mine (not ours)",)


def test_a_guest_that_runs_keeps_its_links_though_its_directory_was_lost(world: World) -> None:
    spec = world.spec(nics=(NIC,))
    assert world.ensure(spec).converged
    directory = world.host.paths.vm(spec.vm_id).state
    lost = directory.with_name("lost")
    directory.rename(lost)
    leftovers = Leftovers(world.host)
    for _ in range(3):
        leftovers.sweep()
        assert "interface cu7-0" in leftovers.told
    removal = StrayRemoval(world.host.uuid, (StraySpec("interface", "cu7-0"),))
    assert strays.remove(world.host, removal) == []
    lost.rename(directory)
    assert nics.presence(world.host.taps(spec), world.host.surroundings) is Presence.ALL
