"""Whether the host's disk has room for more than its guests' own data."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from cloud.errors import CumuletError
from vms.spec import LEAST_FREE_GB

_GIB = 2**30


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
