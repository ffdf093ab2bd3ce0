"""Downloads one image: `python -m vms.host.fetch HOST STATE RUN USER IMAGE_ID`, its own process.

Started by the monitor and independent of it: nothing slow holds a message or an event. Every
file is bounded, verified and, if it is a disk, inspected before it appears in the store under
its checksum; what cannot be used leaves nothing behind but the reason.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import httpx
import structlog

from cloud import files, requestid
from cloud.errors import CumuletError
from cloud.logs import logging_config
from cloud.wire import Failure
from vms.host import bell, imagecheck, images, room
from vms.host.paths import HostPaths
from vms.spec import FileSpec, ImageSpec

log = structlog.get_logger(__name__)

ATTEMPTS = 5
# One attempt may take this long before it starts over where it is.
ATTEMPT_SECONDS = 1800.0
_IDLE_SECONDS = 30.0
_CHUNK_BYTES = 1 << 20
_STEP = "fetch the image"


class SourceUnreachable(CumuletError):
    """The image's source does not answer as it should; it may later."""

    code: ClassVar[str] = "image_unreachable"
    retryable: ClassVar[bool] = True


class SourceMissing(CumuletError):
    """The image's source says that there is no such file."""

    code: ClassVar[str] = "image_source_missing"


class WrongSize(CumuletError):
    """The file is shorter or longer than the image says."""

    code: ClassVar[str] = "image_wrong_size"


class WrongChecksum(CumuletError):
    """The file is not the one that the image says."""

    code: ClassVar[str] = "image_wrong_checksum"


def fetch(paths: HostPaths, image: ImageSpec, user: str | None) -> Failure | None:
    """Get every missing file of the image; answers why it could not, None if it could.

    `user`: who inspects disks (root only).
    """
    failure = None
    try:
        for file in images.missing(paths, image):
            with files.locked(images.file_lock(paths, file.sha256)):
                if not paths.image(file.sha256).exists():
                    _obtain(paths, image, file, user)
    except CumuletError as error:
        failure = Failure(error.code, error.message, error.retryable, _STEP)
    except OSError as error:
        failure = room.failure(_STEP, error)
    try:
        images.note_problem(paths, image, failure)
    except OSError as error:
        log.warning("not noted how it went", image=image.image_id, reason=str(error))
    return failure


def _obtain(paths: HostPaths, image: ImageSpec, file: FileSpec, user: str | None) -> None:
    part = paths.downloads / file.sha256
    for attempt in range(1, ATTEMPTS + 1):
        try:
            room.require(part.parent, images.bytes_missing(paths, image))
            _download(file, part)
            break
        except SourceUnreachable as error:
            log.warning("download interrupted", image=image.image_id, reason=error.message)
            if attempt == ATTEMPTS:
                raise
            _pause(attempt)
        except (CumuletError, OSError):
            part.unlink(missing_ok=True)  # what it takes up, guests may need
            raise
    draft = images.draft(paths, file.sha256)
    try:
        _verify(part, file)
        part.chmod(0o444)
        part.replace(draft)
        if file == image.disk:
            imagecheck.check_disk(draft, image.format, user)
        files.sync(draft)
        draft.replace(paths.image(file.sha256))
        files.sync_directory(paths.images)
    finally:
        part.unlink(missing_ok=True)
        draft.unlink(missing_ok=True)


def _pause(attempt: int) -> None:
    time.sleep(2**attempt)


def _download(file: FileSpec, part: Path) -> None:
    """Go on where an earlier attempt ended.

    Raises SourceUnreachable, SourceMissing, WrongSize or NoRoom.
    """
    if file.url.startswith("file://"):
        _copy(file, part)
        return
    have = part.stat().st_size if part.exists() else 0
    if have >= file.bytes:
        return  # complete, or for the verification to refuse
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with httpx.stream(
            "GET", file.url, headers=headers, follow_redirects=True, timeout=_IDLE_SECONDS
        ) as answer:
            _check(answer, file, part)
            mode = "ab" if answer.status_code == httpx.codes.PARTIAL_CONTENT else "wb"
            deadline = time.monotonic() + ATTEMPT_SECONDS
            with part.open(mode) as target:
                for chunk in answer.iter_bytes(_CHUNK_BYTES):
                    room.require(part.parent)  # others fill the disk as well
                    target.write(chunk)
                    if target.tell() > file.bytes:
                        raise _too_long(file)
                    if time.monotonic() > deadline:
                        raise SourceUnreachable(f"{file.url} is slow: going on in a new attempt")
    except httpx.HTTPError as error:
        raise SourceUnreachable(f"{file.url} broke off: {error!r}") from error
    except httpx.InvalidURL as error:
        raise SourceMissing(f"{file.url} is not a URL: {error}") from error


def _check(answer: httpx.Response, file: FileSpec, part: Path) -> None:
    """Raises SourceUnreachable or SourceMissing unless the answer brings what was asked for."""
    code = answer.status_code
    if code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        part.unlink(missing_ok=True)
        raise SourceUnreachable(f"{file.url} became shorter: starting over")
    if answer.is_server_error or code in (
        httpx.codes.TOO_MANY_REQUESTS,
        httpx.codes.REQUEST_TIMEOUT,
    ):
        raise SourceUnreachable(f"{file.url} answered {code}: check its server")
    if not answer.is_success:
        raise SourceMissing(f"{file.url} answered {code}: correct the image's URL")


def _copy(file: FileSpec, part: Path) -> None:
    """From this host's own file system; copies share blocks where it can."""
    source = Path(unquote(urlsplit(file.url).path))
    if not source.is_file():
        raise SourceMissing(
            f"{source} is not a file on this host: put it there, then add the image again"
        )
    if source.stat().st_size > file.bytes:
        raise _too_long(file)
    shutil.copyfile(source, part)


def _verify(part: Path, file: FileSpec) -> None:
    size = part.stat().st_size
    if size != file.bytes:
        raise WrongSize(f"{file.url} has {size} bytes, not {file.bytes}: correct the image")
    with part.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != file.sha256:
        raise WrongChecksum(f"{file.url} has the SHA-256 {digest}, not {file.sha256}")


def _too_long(file: FileSpec) -> WrongSize:
    return WrongSize(f"{file.url} has more than {file.bytes} bytes: correct the image")


def main(arguments: list[str]) -> int:
    host, state, run, user, image_id = arguments
    paths = HostPaths(Path(state), Path(run))
    environment = os.environ.get
    logging_config(
        environment("CUMULET_LOG_FORMAT"),
        environment("CUMULET_LOG_LEVEL", "INFO"),
        service="fetch",
        host=host,
    )
    wanted = [one for one in images.wanted(paths) if one.image.image_id == int(image_id)]
    for one in wanted:
        with requestid.bound(one.request_id), files.locked(images.fetch_lock(paths, one.image)):
            began = time.monotonic()
            failure = fetch(paths, one.image, user or None)
            _say_how_it_went(one.image, failure, round(time.monotonic() - began, 3))
        bell.ring(paths)
    return 0


def _say_how_it_went(image: ImageSpec, failure: Failure | None, duration: float) -> None:
    about = {"image": image.image_id, "duration": duration}
    if failure:
        log.warning("image not fetched", code=failure.code, reason=failure.message, **about)
    else:
        log.info("image fetched", **about)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
