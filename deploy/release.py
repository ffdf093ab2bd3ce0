"""The copy of the code that runs.

Named by its content: editing the checkout changes nothing until the next `deploy/up`, which
then restarts just the processes whose command line has changed. Readable by every service
user, compiled once by root.
"""

from __future__ import annotations

import compileall
import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from deploy.state import CHECKOUT, Instance

_PARTS = ("manage.py", "cloud", "networks", "vms", "deploy/commands.py")


def ensure(instance: Instance) -> Path:
    """The release of the checkout as it is now; made if it is new."""
    files = {path.relative_to(CHECKOUT): path.read_bytes() for path in _sources()}
    digest = hashlib.sha256(sys.version.encode())
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    release = instance.data / f"release-{digest.hexdigest()[:12]}"
    if not release.exists():
        fresh = instance.data / "release.new"
        shutil.rmtree(fresh, ignore_errors=True)
        for name, content in files.items():
            target = fresh / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        compileall.compile_dir(fresh, quiet=2, stripdir=fresh, prependdir=release)
        fresh.rename(release)
    return release


def newest(instance: Instance) -> Path:
    """The release that the cloud runs from; raises FileNotFoundError if it never ran."""
    found = sorted(instance.data.glob("release-*"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(f"no release in {instance.data}")
    return found[-1]


def is_only(release: Path) -> bool:
    """Whether nothing can still run from an earlier one."""
    return list(release.parent.glob("release-*")) == [release]


def remove_others(release: Path) -> None:
    """Drop earlier releases, once nothing runs from them."""
    for path in release.parent.glob("release-*"):
        if path != release:
            shutil.rmtree(path)


def _sources() -> Iterator[Path]:
    for part in _PARTS:
        top = CHECKOUT / part
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
