"""What a guest image is made of: the contract between the recipes and the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Product:
    """What a recipe leaves in its working directory, by file name."""

    disk: str
    kernel: str | None = None
    initrd: str | None = None
    cmdline: str | None = None


@dataclass(frozen=True)
class Recipe:
    """How to build one guest image.

    `guest` is what users call it here, `name` what the cloud calls the image. `variant` is
    mmdebstrap's word for the base that `packages` are added to. `sources` is the directory
    whose files, with the modules beside it, decide the result. `build` works in the directory
    it is given and returns what it made there.
    """

    guest: str
    name: str
    description: str
    os_flavor: str
    os_version: str | None
    variant: str
    packages: tuple[str, ...]
    sources: Path
    build: Callable[[Path, Progress], Product]
    needs_root: bool = False
