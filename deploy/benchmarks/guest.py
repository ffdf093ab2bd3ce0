"""The guest that all contenders start, and the two moments that are measured of each start."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import psutil

from deploy import processes
from deploy.benchmarks.errors import BenchmarkFailed
from deploy.images.image import GuestImage, ImageFile

# What the micro guest prints when its userspace is complete.
UP = b"cumulet-micro: up"
USERSPACE_SECONDS = 120.0
_POLL_SECONDS = 0.001


@dataclass(frozen=True)
class Guest:
    """One machine for all: image, size and accelerator. Memory in MiB, disk in GiB."""

    image: GuestImage
    cores: int
    memory_mb: int
    disk_gb: int
    accelerator: Literal["kvm", "tcg"]

    @property
    def kernel(self) -> Path:
        return _file(self.image.kernel)

    @property
    def initrd(self) -> Path:
        return _file(self.image.initrd)


@dataclass(frozen=True)
class Sample:
    """One start, in seconds since it was asked for.

    `answered`: when an API said that it will be done, where that is not the same as done.
    """

    process_up: float
    userspace_up: float
    answered: float | None = None


class Contender(Protocol):
    """Makes the guest, measures it and takes it away again."""

    name: str

    def measure(self) -> Sample: ...


def wait_until(ready: Callable[[], bool], what: str, *, seconds: float = 60.0) -> float:
    """Wait until `ready` says so; answers when it did, by the monotonic clock.

    Looks once a millisecond, which costs about 2 % of a core. Raises BenchmarkFailed.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"{what} did not happen within {seconds:g} s")
        time.sleep(_POLL_SECONDS)
    return time.monotonic()


def wait_for_userspace(console: Path) -> float:
    """Wait for the guest's own word on its serial console."""

    def up() -> bool:
        try:
            return UP in console.read_bytes()
        except FileNotFoundError:
            return False

    return wait_until(up, f"'{UP.decode()}' in {console}", seconds=USERSPACE_SECONDS)


def end_guests(directory: Path) -> None:
    """End every QEMU that works below `directory`; they are of a benchmark, and have no state."""
    found = []
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
        except psutil.Error:
            continue
        if arguments and "qemu-system" in arguments[0] and f"{directory}/" in " ".join(arguments):
            found.append(process)
    processes.end(found, patience=0.0)
    wait_until(lambda: not any(processes.alive(one) for one in found), "the end of a guest")


def _file(part: ImageFile | None) -> Path:
    if part is None:
        raise BenchmarkFailed("the benchmark needs an image that is booted directly")
    return part.file
