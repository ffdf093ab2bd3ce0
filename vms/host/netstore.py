"""The documents of private networks that a host has accepted, fenced by their generation.

As `vms.host.store` keeps those of VMs, but that a network may come back: a host is told of it
whenever it has a member, and that it has none any more.
"""

from __future__ import annotations

from contextlib import suppress

from networks.spec import NetworkRemoval, NetworkSpec, NicSpec
from vms.host import documents, files
from vms.host.documents import DamagedStore, OldGeneration
from vms.host.paths import HostPaths, number_of

Wanted = NetworkSpec | NetworkRemoval


def accept(paths: HostPaths, document: Wanted) -> None:
    """Store what holds from now on. Raises OldGeneration or DamagedStore."""
    network_id = document.network_id
    with files.locked(paths.locks / f"{network_id}.network-documents"):
        stored = _stored(paths, document)
        if stored and _is_older(document, stored):
            raise OldGeneration(
                f"network #{network_id}: generation {document.generation} came after"
                f" {stored.generation}, ignored"
            )
        if isinstance(document, NetworkSpec):
            if stored == document:
                return
            documents.write(paths.network(network_id), document)
            paths.removed_network(network_id).unlink(missing_ok=True)
        else:
            documents.write(paths.removed_network(network_id), document)
            paths.network(network_id).unlink(missing_ok=True)


def wanted(paths: HostPaths, network_id: int) -> Wanted | None:
    """What the network must be here, None if the host knows nothing of it; raises DamagedStore."""
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
    """Every network that the host has been told of."""
    names = (path.name.partition(".")[0] for path in paths.networks.glob("[0-9]*.json"))
    return sorted({number for name in names if (number := number_of(name)) is not None})


def network_of(paths: HostPaths, nic: NicSpec) -> NetworkSpec | None:
    """The network that a private NIC is in, if the host has been told of it."""
    if nic.network_id is None:
        return None
    found = wanted(paths, nic.network_id)
    return found if isinstance(found, NetworkSpec) else None


def _stored(paths: HostPaths, document: Wanted) -> Wanted | None:
    """What holds so far; what cannot be read can still be deleted."""
    try:
        return wanted(paths, document.network_id)
    except DamagedStore:
        if isinstance(document, NetworkSpec):
            raise
        return None


def _is_older(document: Wanted, stored: Wanted) -> bool:
    """Of one generation, the removal is the later word."""
    if document.generation != stored.generation:
        return document.generation < stored.generation
    return isinstance(document, NetworkSpec) and isinstance(stored, NetworkRemoval)


def _accepted(paths: HostPaths, network_id: int) -> int:
    with suppress(FileNotFoundError):
        return paths.network(network_id).stat().st_mtime_ns
    return 0
