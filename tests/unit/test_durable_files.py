"""What a host makes is on its disk before it has its name: a power cut leaves no empty disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud.hostconfig import HostConfig
from tests.documents import HOST_UUID, SPEC
from vms.host import cables, disks, fetch, imagecheck, images, seed
from vms.host.host import Host, Owner
from vms.host.paths import HostPaths
from vms.spec import FileSpec, ImageSpec


@pytest.fixture
def host(tmp_path: Path) -> Host:
    paths = HostPaths(tmp_path / "state", tmp_path / "run")
    made = (paths.images, paths.downloads, paths.wanted_images, paths.refused_images, paths.locks)
    for directory in (paths.vm(7).state, *made):
        directory.mkdir(parents=True)
    return Host(HostConfig("h1", "amqp://", paths.state, paths.run), paths, HOST_UUID, "b", None)


@pytest.fixture(autouse=True)
def named_unwritten(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that got their name before their content was on the disk."""
    written: set[int] = set()
    found: list[str] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        written.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def checked(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def moved(self: Path, target: Path) -> Path:
            if self.stat().st_ino not in written:
                found.append(target.name)
            return move(self, target)

        return moved

    monkeypatch.setattr(os, "fsync", noting)
    monkeypatch.setattr(Path, "rename", checked(Path.rename))
    monkeypatch.setattr(Path, "replace", checked(Path.replace))
    return found


def test_a_disk(host: Host, named_unwritten: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def qemu_img(argv: list[Any], **_: Any) -> None:
        Path(argv[-2]).write_bytes(b"QFI\xfb")

    monkeypatch.setattr("vms.host.disks.shell.run", qemu_img)
    disks.ensure_disks(host, SPEC, host.paths.vm(7), 1000)
    assert host.paths.vm(7).disk(0).exists()
    assert named_unwritten == []


def test_a_seed(host: Host, named_unwritten: list[str]) -> None:
    seed.ensure_seed(host, SPEC, host.paths.vm(7))
    assert host.paths.vm(7).seed.exists()
    assert named_unwritten == []


def test_the_file_of_a_cable_is_its_programs_user_s_before_it_has_its_name(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the right text is not written again: what a crash left would never be readable."""
    path = host.paths.state / "identity.pem"
    given: list[bool] = []
    for name in ("chown", "fchown"):
        monkeypatch.setattr(os, name, lambda *_: given.append(path.exists()))
    cables._write(replace(host, owner=Owner("guests", 992, 991)), path, "key")
    assert path.exists()
    assert given == [False]


def test_an_image(
    host: Host, named_unwritten: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is trusted by its name alone from then on."""
    source = tmp_path / "source.raw"
    source.write_bytes(b"disk" * 1000)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    image = ImageSpec(1, FileSpec(source.as_uri(), digest, 4000), "raw")
    monkeypatch.setattr(imagecheck, "check_disk", lambda *_: None)
    assert fetch.fetch(host.paths, image, None) is None
    assert images.present(host.paths, image)
    assert [name for name in named_unwritten if not name.startswith(".")] == []
