"""The documents of private networks that a host has accepted, fenced by their generation.

As `vms.host.store` keeps those of VMs, but that a network may come back: a host is told of it
whenever it has a member, and that it has none any more. What is gone, and control knows it, leaves
a fence, which nobody reads but `accept`, and a control that was restored from a backup.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cloud import files
from networks.spec import NetworkRemoval, NetworkSpec, NicSpec
from vms.host import documents
from vms.host.documents import DamagedStore, OldGeneration
from vms.host.paths import HostPaths, number_of

Wanted = NetworkSpec | NetworkRemoval


def accept(paths: HostPaths, document: Wanted) -> None:
    """Store what holds from now on. Raises OldGeneration or DamagedStore."""
    network_id = document.network_id
    with files.locked(_lock(paths, network_id)):
        stored = _stored(paths, document)
        if stored and _is_older(document, stored):
            raise OldGeneration(
                f"network #{network_id}: generation {document.generation} came after"
                f" {stored.generation}, ignored"
            )
        if isinstance(document, NetworkSpec):
            if stored != document:
                documents.write(paths.network(network_id), document)
            paths.removed_network(network_id).unlink(missing_ok=True)
            paths.network_fence(network_id).unlink(missing_ok=True)
        else:
            documents.write(paths.removed_network(network_id), document)
            paths.network(network_id).unlink(missing_ok=True)


def settle(paths: HostPaths, network_id: int, generation: int) -> None:
    """The removal of this generation was carried out, and control knows: its fence is enough.

    Raises DamagedStore or OSError.
    """
    with files.locked(_lock(paths, network_id)):
        stored = wanted(paths, network_id)
        if not isinstance(stored, NetworkRemoval) or stored.generation != generation:
            return  # there is a newer one meanwhile
        # Before its removal is out of sight: else a crash would bring the network back.
        paths.network(network_id).unlink(missing_ok=True)
        files.sync_directory(paths.networks)
        paths.removed_network(network_id).rename(paths.network_fence(network_id))
        files.sync_directory(paths.network_fences)
        files.sync_directory(paths.networks)
        _lock(paths, network_id).unlink()


def wanted(paths: HostPaths, network_id: int) -> Wanted | None:
    """What the network must be here, None if nothing has to be done; raises DamagedStore."""
    spec = documents.read(paths.network(network_id), NetworkSpec)
    removal = documents.read(paths.removed_network(network_id), NetworkRemoval)
    if spec and removal:  # a crash came between the two
        return spec if spec.generation > removal.generation else removal
    return spec or removal


def specs(paths: HostPaths) -> list[NetworkSpec]:
    """Of all networks that must be here, the last accepted last. Raises DamagedStore."""
    found = [(_accepted(paths, one), wanted(paths, one)) for one in network_ids(paths)]
    return [
        spec for _, spec in sorted(found, key=lambda one: one[0]) if isinstance(spec, NetworkSpec)
    ]


def network_ids(paths: HostPaths) -> list[int]:
    """Every network that must be here, or must go and is not known to be gone."""
    return sorted(_numbers(paths.networks.glob("[0-9]*.json")))


def fences(paths: HostPaths) -> list[NetworkRemoval]:
    """Of networks that are gone, the last first. One that is damaged tells nothing."""
    found = []
    for network_id in _numbers(paths.network_fences.glob("[0-9]*.json")):
        path = paths.network_fence(network_id)
        with suppress(DamagedStore, FileNotFoundError):
            if fence := documents.read(path, NetworkRemoval):
                found.append((path.stat().st_mtime_ns, network_id, fence))
    return [fence for *_, fence in sorted(found, key=lambda one: one[:2], reverse=True)]


def network_of(paths: HostPaths, nic: NicSpec) -> NetworkSpec | None:
    """The network that a private NIC is in, if the host has been told of it."""
    if nic.network_id is None:
        return None
    found = wanted(paths, nic.network_id)
    return found if isinstance(found, NetworkSpec) else None


def _stored(paths: HostPaths, document: Wanted) -> Wanted | None:
    """What holds so far, also of a gone network; what cannot be read can still be deleted."""
    try:
        stored = wanted(paths, document.network_id)
        fence = documents.read(paths.network_fence(document.network_id), NetworkRemoval)
        if stored and fence:  # the network came back, or is removed once more
            return stored if stored.generation > fence.generation else fence
        return stored or fence
    except DamagedStore:
        if isinstance(document, NetworkSpec):
            raise
        return None


def _lock(paths: HostPaths, network_id: int) -> Path:
    """Held for the moment in which a network's documents change."""
    return paths.locks / f"{network_id}.network-documents"


def _numbers(found: Iterable[Path]) -> set[int]:
    names = (path.name.partition(".")[0] for path in found)
    return {number for name in names if (number := number_of(name)) is not None}


def _is_older(document: Wanted, stored: Wanted) -> bool:
    """Of one generation, the removal is the later word."""
    if document.generation != stored.generation:
        return document.generation < stored.generation
    return isinstance(document, NetworkSpec) and isinstance(stored, NetworkRemoval)


def _accepted(paths: HostPaths, network_id: int) -> int:
    with suppress(FileNotFoundError):
        return paths.network(network_id).stat().st_mtime_ns
    return 0
