"""The lab's namespaces: hosts reach each other and control's leg, labs never meet."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud import shell
from deploy import lab
from deploy.lab import Lab


@pytest.fixture
def world() -> Iterator[Lab]:
    world = Lab(secrets.token_hex(3))
    world.ensure(2)
    yield world
    world.remove()


def inside(world: Lab, namespace: str, *command: str, ok: range = range(1)) -> str:
    return shell.run([*world.enter(namespace), *command], timeout=15, ok=ok).stdout


def pings(world: Lab, namespace: str, address: str) -> bool:
    command = ["ping", "-q", "-c", "1", "-W", "2", address]
    return shell.run([*world.enter(namespace), *command], timeout=15, ok=(0, 1)).code == 0


def links(world: Lab, namespace: str) -> str:
    return inside(world, namespace, "ip", "-o", "address")


@pytest.mark.parametrize(
    "address",
    [lab.uplink_address(2), lab.CONTROL, lab.ROUTER, lab.uplink_address6(2), lab.ROUTER6],
)
def test_a_host_reaches_the_others_the_router_and_control(world: Lab, address: str) -> None:
    assert pings(world, world.host(1), address)


def test_ensuring_a_lab_again_changes_nothing(world: Lab) -> None:
    names = (world.outside, world.host(1), world.host(2))
    before = [links(world, name) for name in names]
    world.ensure(2)
    assert [links(world, name) for name in names] == before


def test_a_host_that_lost_its_namespace_gets_a_new_one(world: Lab) -> None:
    shell.run(["ip", "netns", "delete", world.host(2)], timeout=10)
    world.ensure(2)
    assert pings(world, world.host(1), lab.uplink_address(2))


def test_what_a_reboot_leaves_of_a_namespace_is_replaced(world: Lab) -> None:
    world.remove_host("h2")
    world.path(world.host(2)).touch()
    world.ensure(2)
    assert pings(world, world.host(2), lab.CONTROL)


def test_a_host_has_a_boot_id_of_its_own_until_its_namespace_is_another_one(world: Lab) -> None:
    first, second = world.boot_id("h1"), world.boot_id("h2")
    kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert len({first, second, kernel}) == 3
    world.remove_host("h2")
    world.ensure(2)
    assert world.boot_id("h1") == first
    assert world.boot_id("h2") not in (first, second)


def test_two_labs_with_the_same_addresses_do_not_meet(world: Lab) -> None:
    other = Lab(secrets.token_hex(3))
    other.ensure(1)
    try:
        assert pings(world, world.host(1), lab.uplink_address(2))
        assert not pings(other, other.host(1), lab.uplink_address(2))
    finally:
        other.remove()


def test_a_lab_adds_nothing_to_the_network_of_the_machine(world: Lab) -> None:
    here = {path.name for path in Path("/sys/class/net").iterdir()}
    assert not here & {lab.BRIDGE, lab.UPLINK, "h1", "h2"}


def test_a_removed_lab_leaves_no_namespace(world: Lab) -> None:
    world.remove()
    assert world.existing() == []
    assert not list(lab.NAMESPACES.glob(f"cu-{world.id}-*"))
