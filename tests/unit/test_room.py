"""A host's disk is not filled up with what its guests do not need."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from cloud import files
from tests.documents import SPEC
from vms.host import fetch, images
from vms.host.paths import HostPaths
from vms.spec import LEAST_FREE_GB


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    made = HostPaths(tmp_path / "state", tmp_path / "run")
    for directory in (made.images, made.downloads, made.refused_images, made.locks):
        directory.mkdir(parents=True)
    return made


@pytest.mark.parametrize(("missing_bytes", "refused"), [(0, False), (1, True)])
def test_an_image_is_refused_if_too_little_would_be_left_for_guests(
    paths: HostPaths, monkeypatch: pytest.MonkeyPatch, missing_bytes: int, refused: bool
) -> None:
    free = LEAST_FREE_GB * 2**30 + images.bytes_missing(paths, SPEC.image) - missing_bytes
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    problem = images.problem(paths, SPEC.image)
    assert (problem is not None) is refused
    assert problem is None or (problem.code, problem.retryable) == ("host_disk_full", True)


def test_why_an_image_was_not_fetched_is_told_though_it_cannot_be_written_down(
    paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    monkeypatch.setattr(files, "write", full)
    failure = fetch.fetch(paths, SPEC.image, None)
    assert failure
    assert failure.code == "host_disk_full"
    told = images.problem(paths, SPEC.image)
    assert told
    assert told.code == "host_disk_full"
