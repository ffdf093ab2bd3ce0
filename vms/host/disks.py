"""The disks of a VM: an overlay on its base image, and empty ones."""

from __future__ import annotations

from typing import ClassVar

from cloud import files, shell
from cloud.errors import CumuletError
from vms.host.host import Host
from vms.host.paths import VmPaths
from vms.spec import DiskSpec, VmSpec

GIB = 2**30
_SECONDS = 30.0


class DiskLost(CumuletError):
    """A disk that held data is gone."""

    code: ClassVar[str] = "disk_lost"


def ensure_disks(host: Host, spec: VmSpec, paths: VmPaths, image_bytes: int) -> None:
    """Make every disk that is missing; one that exists is never touched.

    The first disk shows the base image, at `size_gb` GiB or the image's own size
    (`image_bytes`) if that is larger. Raises CommandError.
    """
    for disk in spec.disks:
        if not paths.disk(disk.index).exists():
            _create(host, spec, paths, disk, image_bytes)


def require_disks(spec: VmSpec, paths: VmPaths) -> None:
    """Of a VM that had them all. Raises DiskLost."""
    for disk in spec.disks:
        path = paths.disk(disk.index)
        if not path.exists():
            raise DiskLost(
                f"disk {disk.index} of server #{spec.vm_id} was made once and is not there any"
                f" more, so its data is lost: put {path} back from a backup, or delete the server;"
                " an empty disk is not made in its place"
            )


def disks_exist(spec: VmSpec, paths: VmPaths) -> bool:
    return all(paths.disk(disk.index).exists() for disk in spec.disks)


def _create(host: Host, spec: VmSpec, paths: VmPaths, disk: DiskSpec, image_bytes: int) -> None:
    path = paths.disk(disk.index)
    draft = path.with_name(f".{path.name}.new")
    size = disk.size_gb * GIB
    command = ["qemu-img", "create", "-q", "-f", "qcow2"]
    if disk.index == 0:
        base = paths.host.image(spec.image.disk.sha256)
        # Unsafe means "do not open it": the store has verified the image already.
        command += ["-u", "-b", str(base), "-F", spec.image.format]
        size = max(size, image_bytes)
    shell.run([*command, str(draft), str(size)], timeout=_SECONDS)
    host.give(draft, 0o600)
    files.sync(draft)
    draft.rename(path)
    files.sync_directory(path.parent)
