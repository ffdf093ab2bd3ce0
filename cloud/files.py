"""Files that are either whole or not there, on the disk before anything relies on them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write(
    path: Path,
    content: bytes,
    *,
    mode: int = 0o600,
    owner: tuple[int, int] | None = None,
    alone: bool = False,
) -> None:
    """Replace `path` by `content` in one step that survives a power failure. Raises OSError.

    There is one draft for each file, locked by whoever writes it: what a crash leaves of it is the
    next one's draft, so that crashes leave nothing that adds up. `owner`: uid and gid, if not the
    caller's.

    `alone`: by one caller at a time, through a draft that nobody had before. So must be written
    what lies where others may put files, what is secret from whoever could read the last draft,
    and, unless by root, what its owner may not change.
    """
    fresh = draft(path)
    descriptor = _made(fresh) if alone else _acquire(fresh, wait=True)
    assert descriptor is not None, "whoever waits gets it"
    with os.fdopen(descriptor, "wb") as file:
        try:
            file.truncate()
            file.write(content)
            if owner:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    sync_directory(path.parent)


def draft(path: Path) -> Path:
    """Where `write` has what will be `path`."""
    return path.with_name(f".{path.name}.new")


def sync(path: Path) -> None:
    """Make the content of a file that a tool has written survive a power failure.

    Before the file is renamed: a name may be on the disk before what it names.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make names that were added to or taken from a directory survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_foreign(path: Path, limit: int) -> bytes:
    """The first `limit` bytes of a file that another user could have put there.

    Follows no link and waits for nobody. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, limit)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file `path`; yields False if somebody else has it and `wait` is off.

    The holder may remove the file: who waited for the removed one takes the new one instead.
    """
    descriptor = _acquire(path, wait)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _made(path: Path) -> int:
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _acquire(path: Path, wait: bool) -> int | None:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)
