"""The image cache: one build for everybody, nothing left of a build that was killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cloud import shell
from deploy.images import cache
from deploy.images.recipe import Product, Progress, Recipe

ROOT = Path(__file__).parents[2]
KILL_SECONDS = 120.0


def build_small_disk(work: Path, progress: Progress) -> Product:
    progress("making a disk")
    command = ["qemu-img", "create", "-q", "-f", "qcow2", work / "disk.qcow2", "8M"]
    shell.run(command, timeout=30)
    return Product("disk.qcow2")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A recipe of one package, built in no time."""
    return Recipe(
        guest="small",
        name="small",
        description="Small",
        os_flavor="unknown",
        os_version=None,
        variant="extract",
        packages=("busybox-static",),
        sources=ROOT / "deploy/images/micro",
        build=build_small_disk,
    )


def refuse(text: str) -> None:
    raise AssertionError(f"nothing should be done, and it is {text}")


def test_an_image_is_built_once(recipe: Recipe, tmp_path: Path) -> None:
    first = cache.obtain(recipe, tmp_path / "cache", print)
    assert cache.obtain(recipe, tmp_path / "cache", refuse) == first


def test_an_image_is_described_and_readable_by_everybody(recipe: Recipe, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        image = cache.obtain(recipe, tmp_path / "cache", print)
    finally:
        os.umask(before)
    place = image.disk.file.parent
    assert (image.disk.format, image.disk.virtual_bytes) == ("qcow2", 8 * 1024**2)
    assert {path.name: path.stat().st_mode & 0o777 for path in place.iterdir()} == {
        "disk.qcow2": 0o644,
        "image.json": 0o644,
    }
    assert [path.stat().st_mode & 0o777 for path in (place, place.parent)] == [0o755, 0o755]


def test_two_builders_at_once_build_one_image(recipe: Recipe, tmp_path: Path) -> None:
    said: list[str] = []
    found: list[object] = []
    builders = [
        threading.Thread(
            target=lambda: found.append(cache.obtain(recipe, tmp_path / "cache", said.append))
        )
        for _ in range(2)
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert found[0] == found[1]
    assert said.count("making a disk") == 1


def test_a_failed_build_leaves_nothing_and_can_be_repeated(recipe: Recipe, tmp_path: Path) -> None:
    def fail(work: Path, progress: Progress) -> Product:
        (work / "half").touch()
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError):
        cache.obtain(replace(recipe, build=fail), tmp_path / "cache", print)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert cache.obtain(recipe, tmp_path / "cache", print).disk.file.exists()


def test_other_package_versions_make_another_image(recipe: Recipe, tmp_path: Path) -> None:
    first = cache.obtain(recipe, tmp_path / "cache", print)
    other = replace(recipe, packages=("dropbear-bin",))
    assert cache.obtain(other, tmp_path / "cache", print).disk.file != first.disk.file


def test_an_image_that_nobody_used_for_long_goes_when_another_is_built(
    recipe: Recipe, tmp_path: Path
) -> None:
    old = cache.obtain(recipe, tmp_path / "cache", print).disk.file.parent
    long_ago = time.time() - cache.KEPT_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    cache.obtain(replace(recipe, packages=("dropbear-bin",)), tmp_path / "cache", print)
    assert not old.exists()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "cache"
    for process in working_in(tmp_path):
        process.kill()


def working_in(place: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(place) in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def test_a_killed_build_leaves_no_process_no_mount_and_no_loop_device(directory: Path) -> None:
    command = [sys.executable, "-m", "deploy.images", "debian", "--cache", directory]
    log = directory.parent / "log"
    builder = shell.spawn(command, log=log, env={"PYTHONPATH": str(ROOT)})
    unpacked = directory / ".debian.partial/work/root/usr/bin/dpkg"
    deadline = time.monotonic() + KILL_SECONDS
    while not unpacked.exists():  # from here on packages are installed in a chroot
        assert builder.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    time.sleep(1)
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    time.sleep(1)
    assert working_in(directory) == []
    assert str(directory) not in Path("/proc/mounts").read_text()
    assert str(directory) not in shell.run(["losetup", "--all"], timeout=10).stdout
