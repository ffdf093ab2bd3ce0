"""Tell control what this host has: when that changed, once more after it, and now and then anyway.

Once more, because a difference counts only if it was seen twice (`cloud.drift.GRACE`).
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
from msgspec import structs

from cloud.errors import CumuletError
from vms.drift.spec import MOST_HELD, HostInventory, InventoryRequest
from vms.host import census
from vms.host.host import Host

log = structlog.get_logger(__name__)

# So many looks without news pass before control is told again.
_QUIET_LOOKS = 10

Tell = Callable[[HostInventory], bool]


class Surveyor:
    """Remembers what was told last."""

    def __init__(self, host: Host, tell: Tell) -> None:
        self._host = host
        self._tell = tell
        self._told: HostInventory | None = None
        self._quiet = 0

    def sweep(self) -> None:
        """Look once; what goes wrong is tried again by the next one."""
        try:
            seen = census.look(self._host)
        except (CumuletError, OSError) as error:
            log.warning("host not looked through", reason=str(error))
            return
        news = self._told is None or structs.replace(seen, seq=self._told.seq) != self._told
        self._quiet = 0 if news else self._quiet + 1
        if news or self._quiet % _QUIET_LOOKS == 1:
            # What did not reach the broker is news again.
            self._told = seen if self._tell(seen) else None


def tell(host: Host, send: Tell, request: InventoryRequest | None = None) -> None:
    """Because control asked. Raises DamagedStore or OSError.

    An inventory that was restored from a backup asks with a question: it must count on from what
    it said of networks that are gone, too, or the host would refuse them if they came back.
    """
    seen = census.look(host, deep=True)
    if request is not None:
        removed = [uuid for uuid in request.servers if host.paths.tombstone(uuid).exists()]
        seen = structs.replace(seen, removed=tuple(removed), answers=request.question)
    if request is not None and request.question:
        networks = (*seen.networks, *census.gone_networks(host))[:MOST_HELD]
        seen = structs.replace(seen, networks=networks)
    send(seen)
