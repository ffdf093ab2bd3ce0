"""The host's image store: verified files under their checksums, and the list of wanted images.

Whoever needs an image that is not there calls `want`; the monitor starts `vms.host.fetch` for
it, reports its progress and converges the VMs that wait. All of it lies on disk, so a download
that died with its process, or with the host, is taken up again.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import msgspec
from msgspec import Struct

from cloud import files, requestid
from cloud.errors import CumuletError
from cloud.wire import Failure, known
from vms.host import bell, room
from vms.host.host import Host
from vms.host.paths import HostPaths
from vms.spec import FileSpec, ImageSpec


class WantedImage(Struct, frozen=True):
    """An image that was asked for, and the request that it was asked for by."""

    image: ImageSpec
    request_id: str


class ImageProblem(Struct, frozen=True):
    """Why the last attempt to fetch exactly this image failed."""

    image: ImageSpec
    failure: Failure


class ImageUnusable(CumuletError):
    """The image of a VM cannot be used; `code` and `retryable` are those of its problem."""

    code: ClassVar[str] = "image_unusable"

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def present(paths: HostPaths, image: ImageSpec) -> bool:
    return not missing(paths, image)


def missing(paths: HostPaths, image: ImageSpec) -> list[FileSpec]:
    return [file for file in image.files if not paths.image(file.sha256).exists()]


def bytes_missing(paths: HostPaths, image: ImageSpec) -> int:
    """How much of the image's files has yet to be downloaded."""
    return sum(file.bytes - _bytes_here(paths, file) for file in image.files)


def progress(paths: HostPaths, image: ImageSpec) -> int:
    """How much of the image's files is here, in percent of their bytes."""
    total = sum(file.bytes for file in image.files)
    here = sum(_bytes_here(paths, file) for file in image.files)
    return min(100, here * 100 // total)


def want(host: Host, image: ImageSpec, *, anew: bool = False) -> None:
    """Have the image fetched. `anew` forgets what was wrong with it the last time.

    Who asks first is who it is fetched for.
    """
    if anew:
        _problem_path(host.paths, image).unlink(missing_ok=True)
    path = _wanted_path(host.paths, image)
    known = _read_wanted(path)
    if known is None or known.image != image:
        files.write(path, msgspec.json.encode(WantedImage(image, requestid.now())))
    bell.ring(host.paths)


def wanted(paths: HostPaths) -> list[WantedImage]:
    """Every image that was asked for and not yet settled."""
    found = map(_read_wanted, sorted(paths.wanted_images.glob("*.json")))
    return [one for one in found if one is not None]


def settle(paths: HostPaths, image: ImageSpec) -> None:
    """Take the image off the list: it is there, or it never will be."""
    _wanted_path(paths, image).unlink(missing_ok=True)


def problem(paths: HostPaths, image: ImageSpec) -> Failure | None:
    """What went wrong when exactly this image was last fetched, or why it cannot be now.

    A host without room for the image may have none to note that, either.
    """
    return _noted(paths, image) or _lack_of_room(paths, image)


def _noted(paths: HostPaths, image: ImageSpec) -> Failure | None:
    try:
        stored = msgspec.json.decode(
            _problem_path(paths, image).read_bytes(), type=known(ImageProblem)
        )
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return stored.failure if stored.image == image else None


def _lack_of_room(paths: HostPaths, image: ImageSpec) -> Failure | None:
    try:
        room.require(paths.downloads, bytes_missing(paths, image))
    except room.NoRoom as error:
        return Failure(error.code, error.message, error.retryable)
    return None


def note_problem(paths: HostPaths, image: ImageSpec, failure: Failure | None) -> None:
    """Keep what went wrong, or forget it (None)."""
    path = _problem_path(paths, image)
    if failure is None:
        path.unlink(missing_ok=True)
    else:
        files.write(path, msgspec.json.encode(ImageProblem(image, failure)))


def fetch_lock(paths: HostPaths, image: ImageSpec) -> Path:
    """Held by the process that fetches the image."""
    return paths.locks / f"image-{image.image_id}"


def file_lock(paths: HostPaths, sha256: str) -> Path:
    """Held by the process that fetches or removes the file."""
    return paths.locks / f"file-{sha256}"


def draft(paths: HostPaths, sha256: str) -> Path:
    """Of a file that is whole and not inspected yet; the unprivileged user can read it."""
    return paths.images / f".{sha256}"


def _read_wanted(path: Path) -> WantedImage | None:
    """None for what an older release wrote, too: control asks again for an image it misses."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=known(WantedImage))
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _wanted_path(paths: HostPaths, image: ImageSpec) -> Path:
    return paths.wanted_images / f"{image.image_id}.json"


def _problem_path(paths: HostPaths, image: ImageSpec) -> Path:
    return paths.refused_images / f"{image.image_id}.json"


def _bytes_here(paths: HostPaths, file: FileSpec) -> int:
    if paths.image(file.sha256).exists():
        return file.bytes
    try:
        return (paths.downloads / file.sha256).stat().st_size
    except FileNotFoundError:
        return 0
