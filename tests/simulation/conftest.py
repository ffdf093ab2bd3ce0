"""The simulation's own words on the command line, and a place in memory for its files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")
_PREFIX = "cu-sim-"


@pytest.fixture
def place() -> Iterator[Path]:
    """Short, as sockets are bound in it, and in memory, as thousands of worlds are made there."""
    parent = _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None
    if parent is not None:
        _clear_leftovers(parent)
    made = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
    yield made / "w"
    shutil.rmtree(made)


def _clear_leftovers(parent: Path) -> None:
    """A run that was killed would hold memory until the machine is started again."""
    for left in parent.glob(f"{_PREFIX}*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(left, ignore_errors=True)
