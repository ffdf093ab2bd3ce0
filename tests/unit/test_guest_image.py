"""What a guest image is called, described by, and keyed with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy import images
from deploy.images import packages
from deploy.images.cache import recipe_digest
from deploy.images.errors import UnknownGuest
from deploy.images.image import DiskFile, GuestImage, ImageFile
from deploy.images.overlay import stage

SIMULATED = """\
NOTE: This is only a simulation!
Inst libc6 (2.36-9+deb12u10 Debian:12.11/stable [amd64]) []
Inst busybox-static (1:1.35.0-4+b1 Debian:12.11/stable [amd64])
Conf libc6 (2.36-9+deb12u10 Debian:12.11/stable [amd64])
"""


def image(place: Path, *, kernel: bool) -> GuestImage:
    return GuestImage(
        name="debian-12",
        description="Debian 12",
        os_flavor="debian",
        os_version="12",
        architecture="x86",
        disk=DiskFile(place / "disk.qcow2", "00" * 32, 10, "qcow2", 2 * 1024**3),
        kernel=ImageFile(place / "vmlinux", "11" * 32, 20) if kernel else None,
        initrd=ImageFile(place / "initrd", "22" * 32, 30) if kernel else None,
        cmdline="quiet" if kernel else None,
    )


@pytest.mark.parametrize("kernel", [True, False])
def test_a_description_reads_back_as_it_was_written(tmp_path: Path, kernel: bool) -> None:
    written = image(tmp_path, kernel=kernel)
    written.write(tmp_path)
    assert GuestImage.read(tmp_path) == written


def test_a_description_names_its_files_without_their_place(tmp_path: Path) -> None:
    image(tmp_path, kernel=True).write(tmp_path)
    described = json.loads((tmp_path / "image.json").read_text())
    assert described["disk"]["file"] == "disk.qcow2"
    assert described["kernel"]["file"] == "vmlinux"


def test_an_image_that_moved_is_found_where_it_is(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    image(here, kernel=False).write(here)
    here.rename(there)
    assert GuestImage.read(there).disk.file == there / "disk.qcow2"


def test_the_archive_is_asked_for_names_and_versions() -> None:
    offered = packages.parse_simulation(SIMULATED)
    assert offered == {"libc6": "2.36-9+deb12u10", "busybox-static": "1:1.35.0-4+b1"}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    sources = tmp_path / "recipe"
    (sources / "guest").mkdir(parents=True)
    (sources / "guest/init").write_text("#!/bin/sh\n")
    (tmp_path / "shared.py").write_text("")
    return sources


def test_a_recipe_keeps_its_digest_until_a_file_changes(recipe: Path) -> None:
    before = recipe_digest(recipe, recipe.parent)
    assert recipe_digest(recipe, recipe.parent) == before
    (recipe / "guest/init").write_text("#!/bin/busybox sh\n")
    assert recipe_digest(recipe, recipe.parent) != before


def test_a_recipe_changes_with_what_all_recipes_share(recipe: Path) -> None:
    before = recipe_digest(recipe, recipe.parent)
    (recipe.parent / "shared.py").write_text("x = 1\n")
    assert recipe_digest(recipe, recipe.parent) != before


def test_a_file_that_becomes_executable_changes_the_recipe(recipe: Path) -> None:
    before = recipe_digest(recipe, recipe.parent)
    (recipe / "guest/init").chmod(0o755)
    assert recipe_digest(recipe, recipe.parent) != before


def test_compiled_python_does_not_change_the_recipe(recipe: Path) -> None:
    before = recipe_digest(recipe, recipe.parent)
    (recipe / "__pycache__").mkdir()
    (recipe / "__pycache__/x.pyc").write_bytes(b"compiled")
    assert recipe_digest(recipe, recipe.parent) == before


def test_a_guest_gets_the_same_modes_from_any_checkout(tmp_path: Path, recipe: Path) -> None:
    recipe.chmod(0o700)
    (recipe / "guest").chmod(0o700)
    (recipe / "guest/init").chmod(0o700)
    (recipe / "guest/motd").write_text("")
    (recipe / "guest/motd").chmod(0o600)
    target = tmp_path / "overlay"
    stage(recipe, target)
    modes = {
        str(path.relative_to(target)): path.stat().st_mode & 0o777 for path in target.rglob("*")
    }
    assert modes == {"guest": 0o755, "guest/init": 0o755, "guest/motd": 0o644}


def test_an_unknown_guest_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownGuest, match="debian, micro"):
        images.build("windows", tmp_path, print)
