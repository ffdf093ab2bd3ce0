"""A host whose state directory is a file system of its own, so that it can be full."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud import shell
from deploy.cloud import Cloud
from deploy.hosts import LabHost

# What the host tells control it has. The file behind it is sparse.
_GIB = 64
_SECONDS = 60.0
_PAGE = 4096


@contextmanager
def own_disk(cloud: Cloud, host: LabHost) -> Iterator[None]:
    """Agent and monitor are restarted at both ends; there must be no server on the host."""
    image = host.state.with_name(f"{host.name}.disk")
    with _stopped(cloud, host):
        with image.open("wb") as file:
            file.truncate(_GIB * 2**30)
        quick = ["-E", "lazy_itable_init=1,lazy_journal_init=1", "-m", "0"]
        shell.run(["mkfs.ext4", "-q", *quick, "-d", host.state, image], timeout=_SECONDS)
        shell.run(["mount", "-o", "loop", image, host.state], timeout=_SECONDS)
        shutil.rmtree(host.state / "lost+found")
    try:
        yield
    finally:
        with _stopped(cloud, host):
            shell.run(["umount", host.state], timeout=_SECONDS)
            image.unlink()


@contextmanager
def full(directory: Path) -> Iterator[None]:
    """Not a byte is free in the directory's file system."""
    ballast = directory / "ballast"
    try:
        with ballast.open("wb") as file:
            _grow(file.fileno())
        yield
    finally:
        ballast.unlink()


def is_full(directory: Path) -> bool:
    """Whether a page more finds no room."""
    probe = directory / "probe"
    try:
        probe.write_bytes(b"x" * _PAGE)
    except OSError as error:
        return error.errno == errno.ENOSPC
    finally:
        probe.unlink(missing_ok=True)
    return False


def _grow(file: int) -> None:
    """Take all blocks that there are; what is said to be free is not all to be had."""
    length = _GIB * 2**30
    while length >= _PAGE:
        try:
            os.posix_fallocate(file, os.fstat(file).st_size, length)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            length //= 2


@contextmanager
def _stopped(cloud: Cloud, host: LabHost) -> Iterator[None]:
    cloud.supervisor.stop(host.agent, host.monitor)
    try:
        yield
    finally:
        cloud.supervisor.start(host.agent, host.monitor)
