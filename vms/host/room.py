"""Whether the host's disk has room for more than its guests' own data, and what is told if not."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import ClassVar

from cloud.errors import CumuletError
from cloud.wire import Failure
from vms.spec import LEAST_FREE_GB

_GIB = 2**30
_FULL = (errno.ENOSPC, errno.EDQUOT)


class NoRoom(CumuletError):
    """The rest of the disk is for the guests that are here: without it they would be paused."""

    code: ClassVar[str] = "host_disk_full"
    retryable: ClassVar[bool] = True


def require(directory: Path, more: int = 0) -> None:
    """There is room for `more` bytes in the directory's file system. Raises NoRoom.

    What is kept for root, or for the guests (`LEAST_FREE_GB`), is no room.
    """
    free = shutil.disk_usage(directory).free
    if free - more < LEAST_FREE_GB * _GIB:
        raise NoRoom(
            f"the host's disk has {free / _GIB:.1f} GiB left, of which {LEAST_FREE_GB} GiB is kept"
            f" for its guests, and {more / _GIB:.1f} GiB more is needed: make room on it, or delete"
            " servers of the host; it is tried again"
        )


def failure(what: str, error: OSError) -> Failure:
    """What control is told of a file that could not be written or read; it is tried again."""
    if error.errno in _FULL:
        return Failure(
            "host_disk_full",
            f"the host's disk is full, it could not {what} ({error}): make room on it, or delete"
            " servers of the host; it is tried again",
            retryable=True,
            step=what,
        )
    return Failure("host_io_failed", f"the host could not {what}: {error}", True, what)
