"""The simulation's own words on the command line, and a place in memory for its files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")


@pytest.fixture
def place() -> Iterator[Path]:
    """Short, as sockets are bound in it, and in memory, as thousands of worlds are made there."""
    parent = _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None
    made = Path(tempfile.mkdtemp(prefix="cu-sim-", dir=parent))
    yield made / "w"
    shutil.rmtree(made)
