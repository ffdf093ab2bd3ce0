"""The lab's cloud with a resident server on every host, and one fault after the other."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hcloud.servers import BoundServer

from cloud import shell
from deploy.guests import register, wait_for_images
from deploy.hosts import LabHost
from deploy.images.image import DiskFile, GuestImage, ImageFile
from tests.e2e.faults.disk import own_disk
from tests.e2e.faults.trial import Trial
from tests.e2e.world import World, until

IDLE = "idle"
# The host whose state directory is a file system of its own.
SMALL = "h3"
_HALT = bytes.fromhex("fa f4 eb fd")  # cli; hlt; jmp to the hlt


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="package")
def idle_image(shared_world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image whose guests stop their processor at once: the load is about hosts, not guests."""
    directory = shared_world.cloud.instance.data / "idle-image"
    directory.mkdir(mode=0o755, exist_ok=True)
    raw, disk = tmp_path_factory.mktemp("idle") / "raw", directory / "disk.qcow2"
    raw.write_bytes(struct.pack("510s2B", _HALT, 0x55, 0xAA).ljust(2**20, b"\0"))
    shell.run(["qemu-img", "convert", "-O", "qcow2", raw, disk], timeout=30)
    file = ImageFile.of(disk)
    GuestImage(
        name=IDLE,
        description="Stops at once",
        os_flavor="unknown",
        os_version=None,
        architecture="x86",
        disk=DiskFile(file.file, file.sha256, file.bytes, "qcow2", 2**20),
        kernel=None,
        initrd=None,
        cmdline=None,
    ).write(directory)
    before = len(shared_world.api.images.get_all())
    register(shared_world.cloud, [directory / "image.json"])
    wait_for_images(shared_world.cloud.instance, shared_world.api, before + 1)
    return IDLE


@pytest.fixture(scope="package")
def small_disk(shared_world: World) -> Iterator[None]:
    (host,) = [host for host in shared_world.cloud.hosts if host.name == SMALL]
    assert isinstance(host, LabHost)
    with own_disk(shared_world.cloud, host):
        yield


@pytest.fixture(scope="package")
def residents(shared_world: World, small_disk: None) -> Iterator[dict[str, BoundServer]]:
    """A server on each host: an empty host is better than one with a server."""
    world = World(shared_world.cloud, shared_world.api, shared_world.key)
    hosts = [host.name for host in world.cloud.hosts]
    servers = [world.create(f"resident-{name}") for name in hosts]
    found = {world.host_of(server).name: server for server in servers}
    assert sorted(found) == sorted(hosts)
    yield found
    world.delete_all()
    until(lambda: not world.leftovers(), "hosts are clean", seconds=60)


@pytest.fixture
def trial(shared_world: World, residents: dict[str, BoundServer], idle_image: str) -> Trial:
    return Trial(shared_world, residents, idle_image)
