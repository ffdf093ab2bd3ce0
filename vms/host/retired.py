"""Removes the files of a base image that is offered no more, as far as nothing here needs them.

Control says when: it asks again until it hears that nothing is left. Whoever needs such a file all
the same, as its document was on the way, has it fetched again.
"""

from __future__ import annotations

import re

import structlog

from cloud import files
from cloud.errors import CumuletError
from vms.host import images, store
from vms.host.host import Host
from vms.host.paths import HostPaths
from vms.spec import ImageFetch

log = structlog.get_logger(__name__)

# A disk names its base image in its first cluster, by a path that ends in the checksum.
_CLUSTER_BYTES = 64 * 1024
_CHECKSUM = re.compile(rb"(?<=/)[0-9a-f]{64}")


def remove(host: Host, request: ImageFetch) -> bool:
    """Whether none of the files in `request.gone` is left. Raises OSError."""
    images.settle(host.paths, request.image)  # a download that waits for its next try is none
    images.note_problem(host.paths, request.image, None)
    try:
        needed = _needed(host)
    except CumuletError as error:
        log.warning("retired image kept", image=request.image.image_id, reason=error.message)
        return False
    left = [sha for sha in request.gone if sha in needed or not _remove(host.paths, sha)]
    files.sync_directory(host.paths.images)
    log.info("retired image removed", image=request.image.image_id, left=left)
    return not left


def _needed(host: Host) -> set[str]:
    """The checksums of all files that something here names: without a full view of it, nothing.

    Raises DamagedStore or OSError.
    """
    specs = (store.spec(host.paths.vm(vm_id)) for vm_id in store.vm_ids(host))
    named = {spec.image for spec in specs if spec}
    named.update(one.image for one in images.wanted(host.paths))
    needed = {file.sha256 for image in named for file in image.files}
    # Also those of servers that no document is here of any more.
    for disk in host.paths.vms.glob("*/*disk-*"):
        start = files.read_foreign(disk, _CLUSTER_BYTES)
        needed.update(found.decode() for found in _CHECKSUM.findall(start))
    return needed


def _remove(paths: HostPaths, sha256: str) -> bool:
    """Whether it is gone; not while it is being fetched."""
    lock = images.file_lock(paths, sha256)
    with files.locked(lock, wait=False) as mine:
        if mine:
            (paths.downloads / sha256).unlink(missing_ok=True)
            images.draft(paths, sha256).unlink(missing_ok=True)
            paths.image(sha256).unlink(missing_ok=True)
            lock.unlink()
    return mine
