"""A recipe's own files, on their way into a guest."""

from __future__ import annotations

import shutil
from pathlib import Path


def stage(source: Path, target: Path) -> None:
    """Copy the tree `source` into `target`, owned by the caller and readable by everybody.

    Of a checkout's modes only "executable" is kept: the rest depends on who checked it out.
    """
    target.mkdir(parents=True, exist_ok=True)
    target.chmod(0o755)
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(exist_ok=True)
            copy.chmod(0o755)
        else:
            shutil.copyfile(path, copy)
            copy.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
