"""A VM goes: its process, its links, its files. Works from any state, and repeatedly."""

from __future__ import annotations

import shutil
from contextlib import suppress

from networks.host import nics
from vms.host import qemu, store
from vms.host.host import Host
from vms.host.paths import VmPaths, tap_name
from vms.spec import VmRemoval

# NicSpec.index ends at 7; what exists is asked of the kernel, not of a document.
_MOST_NICS = 8


def remove(host: Host, removal: VmRemoval, paths: VmPaths) -> None:
    """Leave nothing but the documents that say so; raises CumuletError or OSError.

    The disks go last: as long as QEMU may live, it has them.
    """
    qemu.stop(removal.uuid, paths)
    if host.routes_networks:
        names = [tap_name(paths.vm_id, index) for index in range(_MOST_NICS)]
        nics.remove_nics(names, _addresses(paths), host.surroundings)
    shutil.rmtree(paths.run, ignore_errors=True)
    kept = {paths.removal, paths.memory}
    for path in paths.state.iterdir():
        if path not in kept:
            path.unlink()


def _addresses(paths: VmPaths) -> list[str]:
    with suppress(store.DamagedStore):
        spec = store.spec(paths)
        if spec:
            return [nic.ipv4 for nic in spec.nics]
    return []
