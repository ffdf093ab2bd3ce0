"""The monitor's look for what the host's network holds beyond the documents of its VMs.

What is ours is removed when it is found for the second time in a row: a VM that comes or goes
meanwhile is none. The rest is told to control, for people to look at.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from cloud.errors import CumuletError
from networks.host import leftovers
from networks.host.leftovers import Kind, Leftover
from networks.host.links import Tap
from vms.host import qemu, store
from vms.host.host import Host
from vms.host.paths import server_of
from vms.spec import MOST_LEFTOVERS

log = structlog.get_logger(__name__)

_CHARACTERS = 100


class Leftovers:
    """Remembers what was found the last time."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._before: frozenset[Leftover] = frozenset()

    @property
    def told(self) -> tuple[str, ...]:
        """What was found, as control is told of it."""
        return tuple(sorted(str(one)[:_CHARACTERS] for one in self._before))[:MOST_LEFTOVERS]

    def sweep(self) -> None:
        """Look once. Without a full view of the documents nothing is anybody's leftover."""
        if not self._host.routes_networks:
            return
        around = self._host.surroundings
        try:
            seen = leftovers.look(around)
            found = frozenset(leftovers.find(seen, wanted_taps(self._host)))
            for one in found - self._before:
                log.warning("left over", what=str(one))
            again = [one for one in found & self._before if one.ours]
            again = unserved(self._host, again) if again else []
            if again:
                leftovers.remove(again, around)
                log.warning("leftovers removed", what=[str(one) for one in again])
            self._before = found - frozenset(again)
        except (CumuletError, OSError) as error:
            log.warning("leftovers not looked for", reason=str(error))


def unserved(host: Host, found: Sequence[Leftover]) -> list[Leftover]:
    """Without what a QEMU may need that runs though its document is gone, as its directory was."""
    orphans = {one.vm_id for one in qemu.running(host.paths)} - {None, *store.vm_ids(host)}
    return [
        one
        for one in found
        # Whose an answer on the uplink is, its name does not say.
        if not orphans or (one.kind is not Kind.PROXY and server_of(one.name) not in orphans)
    ]


def wanted_taps(host: Host) -> list[Tap]:
    """Of all documents, so that without a full view of them nothing is nobody's.

    Raises DamagedStore.
    """
    specs = (store.spec(host.paths.vm(vm_id)) for vm_id in store.vm_ids(host))
    return [tap for spec in specs if spec for tap in host.taps(spec)]
