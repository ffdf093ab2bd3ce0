"""What control wants removed and no document names: only what this host proves to be its own.

Control's word is not enough: the host looks itself, as `vms.host.leftovers` does, and takes away
what bears its own mark and belongs to no server that it has a document of, nor to one that runs.
"""

from __future__ import annotations

import structlog

from networks.host import leftovers
from networks.host.leftovers import Kind, Leftover
from vms.drift.spec import StrayRemoval
from vms.host import documents
from vms.host.host import Host
from vms.host.leftovers import unserved, wanted_taps

log = structlog.get_logger(__name__)

_CALLED = {"interface": Kind.INTERFACE, "rules": Kind.RULES, "answer": Kind.PROXY}


def remove(host: Host, removal: StrayRemoval) -> list[Leftover]:
    """Answers what was removed. Raises WrongHost, DamagedStore, NetworkRefused or CommandError."""
    documents.check_host(host.uuid, removal.host_uuid)
    if not host.routes_networks:
        return []
    asked = {(_CALLED[one.kind], one.name) for one in removal.strays}
    around = host.surroundings
    found = leftovers.find(leftovers.look(around), wanted_taps(host))
    ours = [one for one in found if one.ours and (one.kind, one.name) in asked]
    proven = unserved(host, ours)
    leftovers.remove(proven, around)
    log.warning("strays removed", what=[str(one) for one in proven], asked=len(asked))
    return proven
