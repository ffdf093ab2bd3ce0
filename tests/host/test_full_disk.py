"""A host's disk is full, and has room again: a small file system of its own, and a real guest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from cloud import shell
from tests.documents import SPEC
from tests.host.world import World, until
from vms.host import qmp
from vms.spec import DiskSpec, Power, PowerGoal, VmSpec

MIB = 2**20
# Less than the time between two sweeps of the monitor.
EVENT_SECONDS = 5.0


@pytest.fixture
def small(world: World) -> Iterator[World]:
    """A host whose servers' disks have 48 MiB together."""
    vms = world.host.paths.vms
    shell.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=711", "none", vms], timeout=10)
    try:
        yield world
        world.remove(world.spec(), generation=10**9)
    finally:
        shell.run(["umount", "--lazy", vms], timeout=10)


def test_a_guest_that_found_its_hosts_disk_full_is_told_of_and_goes_on_when_there_is_room(
    small: World,
) -> None:
    world = small
    ballast = world.host.paths.vms / "ballast"
    with world.watched():
        spec = world.boot(disks=(*SPEC.disks, DiskSpec(disk_id=99, index=1, size_gb=1)))
        process, boot = world.process(spec), boot_id(world, spec)
        fill(ballast, 28 * MIB)
        world.ssh(spec, "(dd if=/dev/zero of=/dev/vdb bs=1M count=24; sync; touch /tmp/done) &")
        until(lambda: qmp.run_state(world.host.paths.vm(7).qmp) == qmp.STALLED, "QEMU paused it")
        took = until(lambda: failure(world), "control knows")
        assert took < EVENT_SECONDS
        assert failure(world) == ("host_disk_full", True)
        assert world.reported(power=Power.RUNNING, converged=False)
        ballast.unlink()
        took = until(lambda: world.reported(failure=None, converged=True), "it runs again")
        assert took < 2 * EVENT_SECONDS
        until(lambda: world.ssh(spec, "ls /tmp/done").stdout, "it wrote all")
        assert (world.process(spec), boot_id(world, spec)) == (process, boot)
        off = structs.replace(spec, generation=4, power=PowerGoal.OFF)
        assert world.ensure(off).power is Power.OFF


def fill(ballast: Path, size: int) -> None:
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def failure(world: World) -> tuple[str, bool] | None:
    last = world.reports[-1].failure
    return (last.code, last.retryable) if last else None


def boot_id(world: World, spec: VmSpec) -> str:
    return world.ssh(spec, "cat /proc/sys/kernel/random/boot_id").stdout
