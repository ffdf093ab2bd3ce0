"""Keeps logs of what runs for long from filling the host."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MAX_BYTES = 1 << 20
KEPT_BYTES = MAX_BYTES // 2


def trim_all(directory: Path) -> None:
    """Raises OSError."""
    for path in directory.iterdir():
        trim(path)


def trim(path: Path) -> None:
    """Cut a log of more than MAX_BYTES to its last part. Its writer appends, and goes on.

    The directory may belong to the QEMU user, so only a plain file is touched.
    """
    try:
        log = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # absent, or not what it should be
    try:
        seen = os.fstat(log)
        if stat.S_ISREG(seen.st_mode) and seen.st_nlink == 1 and seen.st_size > MAX_BYTES:
            tail = os.pread(log, KEPT_BYTES, seen.st_size - KEPT_BYTES)
            os.ftruncate(log, 0)
            os.pwrite(log, tail, 0)
    finally:
        os.close(log)
