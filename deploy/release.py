"""The copy of the code that runs.

Named by its content: editing the checkout changes nothing until the next `deploy/up`, which
then restarts just the processes whose command line has changed. Readable by every service
user, compiled once by root. A link names the one that the cloud was last up with.
"""

from __future__ import annotations

import compileall
import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from cloud import files as durable
from cloud import shell
from cloud.errors import CumuletError
from deploy.state import CHECKOUT, Instance

_PARTS = ("manage.py", "cloud", "networks", "vms", "deploy/commands.py")
_SYNC_SECONDS = 300.0  # whatever else waits to be written goes first


class NeverUp(CumuletError):
    """The cloud was never up, so nobody knows what should run."""

    code: ClassVar[str] = "never_up"


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
        # A name may be on the disk before what it names, and this one is trusted for good.
        shell.run(["sync", "--file-system", fresh], timeout=_SYNC_SECONDS)
        fresh.rename(release)
        durable.sync_directory(instance.data)
    return release


def settle(release: Path) -> None:
    """Say that the cloud is up with this release, and drop those that nothing runs from now."""
    link = _link(release.parent)
    fresh = link.with_name("release.link")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(release.name)
    fresh.replace(link)
    durable.sync_directory(release.parent)
    for path in release.parent.glob("release-*"):
        if path != release:
            shutil.rmtree(path)


def current(instance: Instance) -> Path:
    """The release that the cloud was last up with; raises NeverUp."""
    try:
        found = instance.data / _link(instance.data).readlink()
    except FileNotFoundError:
        raise NeverUp(
            f"the cloud in {instance.state} was not up yet with a release of its own: run deploy/up"
        ) from None
    return found


def is_only(release: Path) -> bool:
    """Whether nothing can still run from an earlier one."""
    return list(release.parent.glob("release-*")) == [release]


def _link(data: Path) -> Path:
    return data / "release"


def _sources() -> Iterator[Path]:
    for part in _PARTS:
        top = CHECKOUT / part
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
