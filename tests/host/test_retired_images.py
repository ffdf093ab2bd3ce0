"""A retired image leaves a host's disk, but for what anything on the host needs of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from cloud import files
from tests.host.world import World
from vms.host import images, inbox
from vms.spec import ImageFetch, ImageReport, ImageSpec, PowerGoal, VmSpec


@pytest.fixture
def spec(world: World) -> VmSpec:
    """Of a server that is off, with a disk on the image."""
    made = world.spec(power=PowerGoal.OFF)
    assert world.ensure(made).converged
    return made


def retire(world: World, image: ImageSpec) -> list[ImageReport]:
    """Control wants all of the image's files gone; what it is told."""
    world.image_reports.clear()
    gone = tuple(file.sha256 for file in image.files)
    request = ImageFetch(world.host.uuid, image, gone)
    inbox.fetch(world.host, request, lambda report: not world.image_reports.append(report))
    return world.image_reports


def there(world: World, image: ImageSpec) -> list[Path]:
    """What the host has of the image, whole or not."""
    paths = world.host.paths
    names = {file.sha256 for file in image.files}
    return [
        one
        for place in (paths.images, paths.downloads)
        for one in place.iterdir()
        if one.name in names
    ]


def test_an_image_that_no_server_is_made_from_is_removed_and_control_hears(
    world: World, spec: VmSpec
) -> None:
    world.remove(spec)
    (told,) = retire(world, spec.image)
    assert (told.image_id, told.gone, told.ready) == (spec.image.image_id, True, False)
    assert there(world, spec.image) == []
    assert retire(world, spec.image), "it is asked again, as the answer got lost"


def test_an_image_that_a_servers_document_names_stays_and_control_hears_nothing(
    world: World, spec: VmSpec
) -> None:
    world.host.paths.vm(spec.vm_id).disk(0).unlink()
    assert retire(world, spec.image) == []
    assert images.present(world.host.paths, spec.image)


def test_an_image_that_a_disk_names_stays_though_no_document_does(
    world: World, spec: VmSpec
) -> None:
    paths = world.host.paths.vm(spec.vm_id)
    document = paths.spec.read_bytes()
    paths.spec.unlink()
    assert retire(world, spec.image) == []
    assert there(world, spec.image) == [world.host.paths.image(spec.image.disk.sha256)]
    paths.spec.write_bytes(document)


def test_nothing_is_removed_while_a_document_cannot_be_read(world: World, spec: VmSpec) -> None:
    other = structs.replace(
        spec.image, image_id=2, disk=structs.replace(spec.image.disk, sha256="a" * 64)
    )
    world.host.paths.image("a" * 64).write_bytes(b"another disk")
    stored = world.host.paths.vm(spec.vm_id).spec
    document = stored.read_bytes()
    stored.write_bytes(b"{")
    assert retire(world, other) == []
    assert world.host.paths.image("a" * 64).exists()
    stored.write_bytes(document)


def test_a_download_of_a_retired_image_ends_and_leaves_nothing(world: World) -> None:
    disk = structs.replace(world.image.disk, sha256="a" * 64)
    image = ImageSpec(image_id=2, disk=disk, format="qcow2")
    images.want(world.host, image)
    (world.host.paths.downloads / disk.sha256).write_bytes(b"half of it")
    with files.locked(images.file_lock(world.host.paths, disk.sha256)):
        assert retire(world, image) == [], "it is under way"
    assert retire(world, image)
    assert there(world, image) == []
    assert images.wanted(world.host.paths) == []
