"""The documents that a host has accepted, and the order they came in: a fence against old ones.

Written by whoever receives a message (`accept`, `accept_removal`), read by `vms.host.converge`.
Everything is on the disk before it counts: a host that lost power refuses the same documents.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec
import structlog

from cloud import files
from cloud.wire import FIRST_VERSION, WIRE_VERSION, MalformedDocument, decode
from vms.host import documents
from vms.host.documents import DamagedStore, OldGeneration, Refused
from vms.host.host import Host
from vms.host.memory import VmMemory
from vms.host.paths import VmPaths, number_of
from vms.spec import VmRemoval, VmSpec

log = structlog.get_logger(__name__)

Wanted = VmSpec | VmRemoval

# Files among the locks that are of one VM, by what follows its number.
_TRACES = ("vm", "documents", "kick")


class Removed(Refused):
    """The VM was removed from this host, for ever."""

    code = "server_removed"


class ForeignVm(Refused):
    """Another VM has this id on this host."""

    code = "server_id_taken"


def accept(host: Host, spec: VmSpec) -> None:
    """Store `spec` as what the VM must be; the same generation again changes nothing.

    Raises WrongHost, Removed, ForeignVm, OldGeneration, DamagedStore.
    """
    documents.check_host(host.uuid, spec.host_uuid)
    paths = host.paths.vm(spec.vm_id)
    _check_alive(host, spec)
    with files.locked(paths.store_lock):
        _check_alive(host, spec)
        stored = _newest(paths)
        if stored:
            _check_order(stored, spec)
            if stored.generation == spec.generation:
                return
        _make(host, paths)
        documents.write(paths.spec, spec)


def accept_removal(host: Host, removal: VmRemoval) -> None:
    """Store that the VM must be gone; from here on no document brings it back.

    Raises WrongHost, ForeignVm (the tombstone is written all the same), OldGeneration,
    DamagedStore.
    """
    documents.check_host(host.uuid, removal.host_uuid)
    paths = host.paths.vm(removal.vm_id)
    with files.locked(paths.store_lock):
        stored = None
        with suppress(DamagedStore):  # what cannot be read can still be deleted
            stored = _newest(paths)
        foreign = stored is not None and stored.uuid != removal.uuid
        if stored and not foreign:
            _check_order(stored, removal)
        documents.write(host.paths.tombstone(removal.uuid), removal)
        if stored and foreign:
            raise _foreign(stored, removal)
        _make(host, paths)
        documents.write(paths.removal, removal)


def wanted(paths: VmPaths) -> Wanted | None:
    """What the VM must be, None if the host knows nothing of it; raises DamagedStore."""
    return _newest(paths)


def accepted_at(paths: VmPaths) -> float | None:
    """When the document that holds was accepted, in Unix seconds."""
    for path in (paths.removal, paths.spec):
        with suppress(FileNotFoundError):
            return path.stat().st_mtime
    return None


def spec(paths: VmPaths) -> VmSpec | None:
    """The last accepted specification, even if the VM must be gone by now."""
    return documents.read(paths.spec, VmSpec)


def memory(paths: VmPaths, wanted: Wanted | None = None) -> VmMemory:
    """What was remembered. If that is damaged, what `VmMemory.lost` says of the document."""
    try:
        return _remembered(paths)
    except (msgspec.DecodeError, MalformedDocument) as error:
        log.warning("memory lost", vm=paths.vm_id, reason=str(error))
        return VmMemory.lost(wanted) if isinstance(wanted, VmSpec) else VmMemory()


def remember(paths: VmPaths, memory: VmMemory) -> None:
    documents.write(paths.memory, memory)


def _remembered(paths: VmPaths) -> VmMemory:
    """Of a release with another wire version, all but what it told control in that version."""
    try:
        data = msgspec.json.decode(paths.memory.read_bytes())
    except FileNotFoundError:
        return VmMemory()
    if isinstance(data, dict) and data.setdefault("version", FIRST_VERSION) != WIRE_VERSION:
        data = {name: data[name] for name in data.keys() - {"told", "steps"}}
        data["version"] = WIRE_VERSION
    return decode(data, VmMemory)


def forget(paths: VmPaths) -> None:
    """Drop the last traces of a removed VM but its tombstone; the caller holds its lock.

    What says that it must be gone goes last: a crash on the way leaves the same to do.
    """
    with files.locked(paths.store_lock):
        if paths.removal.exists():
            for path in {*paths.state.iterdir()} - {paths.removal}:
                path.unlink()
            paths.removal.unlink()
            _drop_directory(paths)
        paths.store_lock.unlink()


def clear_away(paths: VmPaths) -> bool:
    """Whether no document is here; what a crash or a full disk left of such a VM goes for good.

    But only the host's own files: whatever else is in its directory is data, and stays.
    """
    if paths.removal.exists() or paths.spec.exists():
        return False
    with files.locked(paths.store_lock):
        if paths.removal.exists() or paths.spec.exists():
            return False
        if paths.state.exists():
            _clear(paths)
        paths.store_lock.unlink()
    return True


def _clear(paths: VmPaths) -> None:
    left = set(paths.state.iterdir())
    drafts = map(files.draft, (paths.spec, paths.removal, paths.memory))
    if left <= {paths.memory, *drafts}:
        for path in left:
            path.unlink()
        _drop_directory(paths)


def _drop_directory(paths: VmPaths) -> None:
    paths.state.rmdir()
    files.sync_directory(paths.host.vms)


def vm_ids(host: Host) -> list[int]:
    """Every VM that the host has documents of."""
    numbers = (number_of(path.name) for path in host.paths.vms.iterdir())
    return sorted(number for number in numbers if number is not None)


def half_forgotten_ids(host: Host) -> list[int]:
    """VMs that are gone, and of which a crash has left a lock or a mark."""
    traces = (path.name.partition(".") for path in host.paths.locks.iterdir())
    ids = {number_of(name) for name, _, kind in traces if kind in _TRACES}
    return sorted(one for one in ids - {*vm_ids(host)} if one is not None)


def _check_alive(host: Host, spec: VmSpec) -> None:
    if host.paths.tombstone(spec.uuid).exists():
        raise Removed(f"server #{spec.vm_id} ({spec.uuid}) was removed: it stays removed")


def _check_order(stored: Wanted, document: Wanted) -> None:
    if stored.uuid != document.uuid:
        raise _foreign(stored, document)
    if document.generation < stored.generation:
        raise OldGeneration(
            f"server #{document.vm_id}: generation {document.generation} came after"
            f" {stored.generation}, ignored"
        )


def _foreign(stored: Wanted, document: Wanted) -> ForeignVm:
    return ForeignVm(
        f"server #{document.vm_id} is {stored.uuid} here, not {document.uuid}: two clouds use"
        " this host, or control's database was set back; remove the old server first"
    )


def _newest(paths: VmPaths) -> Wanted | None:
    return documents.read(paths.removal, VmRemoval) or documents.read(paths.spec, VmSpec)


def _make(host: Host, paths: VmPaths) -> None:
    if not paths.state.exists():
        paths.state.mkdir(mode=0o700)
        paths.state.chmod(0o711 if host.owner else 0o700)
        files.sync_directory(host.paths.vms)
