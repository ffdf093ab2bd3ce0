"""A VM goes: its process, its links, its files. Works from any state, and repeatedly."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress

from cloud import files
from cloud.wire import StepName
from networks.host import addresses
from networks.host.addresses import Network
from vms.host import documents, qemu, store, wiring
from vms.host.host import Host
from vms.host.paths import VmPaths
from vms.spec import VmRemoval


def steps(
    host: Host, removal: VmRemoval, paths: VmPaths
) -> list[tuple[StepName, Callable[[], None]]]:
    """What leaves nothing but the documents that say so; each raises CumuletError or OSError.

    The disks go last: as long as QEMU may live, it has them.
    """
    return [
        (StepName.QEMU, lambda: qemu.stop(removal.uuid, paths)),
        (StepName.LINKS, lambda: wiring.of(host).remove(paths, _networks(paths))),
        (StepName.DISK, lambda: _remove_files(paths)),
    ]


def _remove_files(paths: VmPaths) -> None:
    shutil.rmtree(paths.run, ignore_errors=True)
    # Also while the same removal is being accepted once more, as messages may come twice.
    kept = {paths.removal, files.draft(paths.removal), paths.memory}
    for path in paths.state.iterdir():
        if path not in kept:
            path.unlink(missing_ok=True)


def _networks(paths: VmPaths) -> list[Network]:
    with suppress(documents.DamagedStore):
        spec = store.spec(paths)
        if spec:
            return addresses.public(spec.nics)
    return []
