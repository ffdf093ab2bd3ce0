"""Built images on disk, keyed by content: `<directory>/<guest>-<key>/`.

A finished image appears by one rename and is never changed. Builders of the same guest wait for
each other at a file lock. What a killed builder left is a `.partial` directory, which the next
one removes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud import files, shell
from deploy.images import packages
from deploy.images.errors import ArchiveUnreachable, RootNeeded
from deploy.images.image import DiskFile, GuestImage, ImageFile
from deploy.images.recipe import Product, Progress, Recipe
from deploy.places import HERE

# For so long the archive is not asked again whether it has newer packages.
VERSIONS_ARE_FRESH_SECONDS = 7 * 24 * 3600
# Images that nobody asked for in so long are removed when a newer one is built.
KEPT_SECONDS = 30 * 24 * 3600

_SHARED_SOURCES = Path(__file__).parent


def default_directory() -> Path:
    """Where images are kept unless somebody says otherwise."""
    return HERE.cache / "images"


def obtain(recipe: Recipe, directory: Path, progress: Progress) -> GuestImage:
    """The recipe's image, from the cache or built now (see `deploy.images.build`)."""
    image = _known(recipe, directory, VERSIONS_ARE_FRESH_SECONDS) or _shared(recipe)
    if image is not None:
        return image
    if not buildable(recipe):
        raise RootNeeded(recipe.guest)
    if not directory.exists():
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
    with _lock(directory / f".{recipe.guest}.lock", progress):
        progress("asking the Debian archive for its package versions")
        offered = _Versions(recipe, directory).ask(progress)
        image = _find(recipe, directory, offered)
        if image is None:
            image = _build(recipe, directory / _name(recipe, offered), progress)
            _remove_old(recipe, directory)
        return image


def obtainable(recipe: Recipe, directory: Path) -> bool:
    """Whether `obtain` would give the image to this user."""
    found = _known(recipe, directory, VERSIONS_ARE_FRESH_SECONDS) or _shared(recipe)
    return found is not None or buildable(recipe)


def buildable(recipe: Recipe) -> bool:
    return HERE.root or not recipe.needs_root


def recipe_digest(sources: Path, shared: Path = _SHARED_SOURCES) -> str:
    """A digest of the recipe's own files and of the modules that all recipes share."""
    own = (path for path in sources.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in sorted([*own, *shared.glob("*.py")]):
        if "__pycache__" in path.parts:
            continue
        mode = path.stat().st_mode & 0o111
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(shared)} {bool(mode)} {content}\n".encode())
    return digest.hexdigest()


def _name(recipe: Recipe, versions: dict[str, str]) -> str:
    parts = [recipe_digest(recipe.sources), packages.SUITE, json.dumps(versions, sort_keys=True)]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return f"{recipe.guest}-{key}"


def _find(recipe: Recipe, directory: Path, versions: dict[str, str]) -> GuestImage | None:
    place = directory / _name(recipe, versions)
    try:
        image = GuestImage.read(place)
    except (FileNotFoundError, PermissionError):
        return None
    if os.access(place, os.W_OK):
        os.utime(place)  # `_remove_old` goes by the last use
    return image


def _known(recipe: Recipe, directory: Path, max_age: float) -> GuestImage | None:
    """The image of the versions that the archive offered when it was last asked."""
    offered = _Versions(recipe, directory).stored(max_age)
    return _find(recipe, directory, offered) if offered is not None else None


def _shared(recipe: Recipe) -> GuestImage | None:
    """Root's, for a user who cannot build a newer one, or need not."""
    if HERE.shared_cache is None:
        return None
    max_age = VERSIONS_ARE_FRESH_SECONDS if buildable(recipe) else float("inf")
    return _known(recipe, HERE.shared_cache / "images", max_age)


class _Versions:
    """The versions that the archive offered when it was last asked."""

    def __init__(self, recipe: Recipe, directory: Path) -> None:
        self._recipe = recipe
        self._path = directory / f".{recipe.guest}.packages.json"
        self._question = [packages.SUITE, recipe.variant, *recipe.packages]

    def ask(self, progress: Progress) -> dict[str, str]:
        try:
            offered = packages.offered(self._recipe.variant, self._recipe.packages)
        except ArchiveUnreachable:
            stored = self.stored(max_age=float("inf"))
            if stored is None:
                raise
            progress("the Debian archive is out of reach: going by what it offered last")
            return stored
        answer = {"question": self._question, "asked": time.time(), "offered": offered}
        text = json.dumps(answer, indent=2) + "\n"
        files.write(self._path, text.encode(), mode=0o644, alone=True)
        return offered

    def stored(self, max_age: float) -> dict[str, str] | None:
        try:
            answer = json.loads(self._path.read_text())
        except (FileNotFoundError, PermissionError):
            return None
        if answer["question"] != self._question or time.time() - answer["asked"] > max_age:
            return None
        offered: dict[str, str] = answer["offered"]
        return offered


@contextmanager
def _lock(path: Path, progress: Progress) -> Iterator[None]:
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another builder of the same image")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _build(recipe: Recipe, place: Path, progress: Progress) -> GuestImage:
    partial = place.with_name(f".{recipe.guest}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    work, result = partial / "work", partial / "image"
    work.mkdir(parents=True)
    result.mkdir()
    try:
        product = recipe.build(work, progress)
        progress("computing checksums")
        _describe(recipe, product, work, result)
        result.chmod(0o755)
        if place.exists():  # an image without its description: nobody can have used it
            shutil.rmtree(place)
        result.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return GuestImage.read(place)


def _describe(recipe: Recipe, product: Product, work: Path, result: Path) -> None:
    def keep(name: str) -> ImageFile:
        path = (work / name).rename(result / name)
        path.chmod(0o644)
        return ImageFile.of(path)

    disk = keep(product.disk)
    told = shell.run(["qemu-img", "info", "--output=json", "-f", "qcow2", disk.file], timeout=30)
    GuestImage(
        name=recipe.name,
        description=recipe.description,
        os_flavor=recipe.os_flavor,
        os_version=recipe.os_version,
        architecture="x86",
        disk=DiskFile(**vars(disk), format="qcow2", virtual_bytes=_virtual_bytes(told.stdout)),
        kernel=keep(product.kernel) if product.kernel else None,
        initrd=keep(product.initrd) if product.initrd else None,
        cmdline=product.cmdline,
    ).write(result)


def _virtual_bytes(qemu_img_info: str) -> int:
    size: int = json.loads(qemu_img_info)["virtual-size"]
    return size


def _remove_old(recipe: Recipe, directory: Path) -> None:
    for path in directory.glob(f"{recipe.guest}-*"):
        if time.time() - path.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(path)
