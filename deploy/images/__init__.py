"""Builds the guest images from Debian packages: `build()`, or `python -m deploy.images`.

An image is built once per content and cached (cache.py): its key is made of the recipe's files
and of the package versions that the Debian archive offers (packages.py). The two recipes are
debian/ (Debian 12 with cloud-init, boots by itself) and micro/ (kernel and busybox, booted
directly, up in two seconds). What comes out is described by image.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deploy.images import cache, debian, micro
from deploy.images.errors import UnknownGuest
from deploy.images.image import GuestImage

__all__ = ["GUESTS", "GuestImage", "build", "default_cache", "obtainable"]

GUESTS = {recipe.guest: recipe for recipe in (debian.RECIPE, micro.RECIPE)}

default_cache = cache.default_directory


def obtainable(guest: str, directory: Path) -> bool:
    """Whether `build` would give the image to this user; some can be built by root alone."""
    return cache.obtainable(GUESTS[guest], directory)


def build(guest: str, directory: Path, progress: Callable[[str], None]) -> GuestImage:
    """The image of `guest` ("debian" or "micro") from the cache `directory`, built if need be.

    `progress` is told what is being done, a line a step. Raises UnknownGuest, RootNeeded,
    ArchiveUnreachable or a CommandError.
    """
    recipe = GUESTS.get(guest)
    if recipe is None:
        raise UnknownGuest(guest, sorted(GUESTS))
    return cache.obtain(recipe, directory, progress)
