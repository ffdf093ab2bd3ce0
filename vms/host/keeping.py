"""Private networks under the monitor's eyes: its part in making them so, and keeping them so.

What a message could not bring about is tried again here, and a tunnel whose program ended is
started within a moment. Control is told what it has not been told yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from msgspec import structs

from cloud import requestid
from cloud.errors import CumuletError
from networks.spec import NetworkReport
from vms.host import cables, netstore, networks
from vms.host.host import Host
from vms.host.networks import Tell
from vms.spec import SeenNetwork

log = structlog.get_logger(__name__)

# How soon a tunnel or a switch is seen to be gone, and how soon what failed is tried again.
TUNNEL_SECONDS = 0.5
SWITCH_SECONDS = 0.5
CABLE_SECONDS = 1.0
RETRY_SECONDS = 2.0


class Networks:
    """All of this host. `look` converges a VM, whose NICs may have waited for their network."""

    def __init__(self, host: Host, tell: Tell, look: Callable[[int], Awaitable[object]]) -> None:
        self._host = host
        self._tell = tell
        self._look = look
        self._told: dict[int, NetworkReport] = {}
        self._due: set[int] = set()

    def poke(self, network_id: int) -> None:
        """Something about this network is not as it should be."""
        self._due.add(network_id)

    async def tend(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            kind = self._tend_tunnel if self._host.routes_networks else self._tend_switches
            group.create_task(kind())
            group.create_task(self._tend_cables())
            group.create_task(self._try_again())

    async def look_at_all(self, *, insist: bool) -> None:
        """`insist` off: tell only what is new."""
        for network_id in netstore.network_ids(self._host.paths):
            await self._see_to(network_id, insist=insist)

    async def unchanged(self) -> list[SeenNetwork]:
        """Look at all; answers those that are here whole, as control knows. Tells of all others."""
        found = []
        for network_id in netstore.network_ids(self._host.paths):
            told = self._told.get(network_id)
            if told is None or not (told.present and told.converged):
                await self._see_to(network_id, insist=True)
                continue
            looked = await self._see_to(network_id, insist=False)
            if looked and told is self._told.get(network_id):
                found.append(SeenNetwork(network_id, told.generation))
        return found

    async def _see_to(self, network_id: int, *, insist: bool) -> bool:
        """Converge it and tell what is due; whether that could be done."""
        with requestid.bound(requestid.fresh()):
            try:
                report = await asyncio.to_thread(networks.converge, self._host, network_id)
            except (CumuletError, OSError) as error:
                log.error("network not seen to", network=network_id, reason=str(error))
                return False
            if report is None:  # it is gone, and control knows
                self._forget(network_id)
                return False
            # Whose wish it was stands in the document only as long as it is new to control.
            report = structs.replace(report, cause=None)
            was_due = network_id in self._due
            (self._due.add if report.failure else self._due.discard)(network_id)
            # That a network is gone is said once; what is told again and again is what there is.
            due = (insist and report.present) or self._is_news(report)
            if due and await asyncio.to_thread(self._tell, report):
                self._told[network_id] = report
                if not report.present:
                    await asyncio.to_thread(networks.settle, self._host, report)
                    self._forget(network_id)
        if was_due and report.converged:
            for vm_id in await asyncio.to_thread(networks.members, self._host, network_id):
                await self._look(vm_id)
        return True

    def _forget(self, network_id: int) -> None:
        self._due.discard(network_id)
        self._told.pop(network_id, None)

    def _is_news(self, report: NetworkReport) -> bool:
        told = self._told.get(report.network_id)
        return told is None or structs.replace(report, at=told.at) != told

    async def _tend_tunnel(self) -> None:
        while True:
            mended = await asyncio.to_thread(self._mend_tunnel)
            await asyncio.sleep(TUNNEL_SECONDS if mended else RETRY_SECONDS)

    async def _tend_switches(self) -> None:
        while True:
            await asyncio.sleep(SWITCH_SECONDS)
            for network_id in await asyncio.to_thread(self._fallen):
                await self._see_to(network_id, insist=False)

    async def _tend_cables(self) -> None:
        while True:
            mended = await asyncio.to_thread(self._mend_cables)
            await asyncio.sleep(CABLE_SECONDS if mended else RETRY_SECONDS)

    async def _try_again(self) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            for network_id in sorted(self._due):
                await self._see_to(network_id, insist=False)

    def _fallen(self) -> list[int]:
        """Networks that must be here and of which something has ended."""
        try:
            wanted = [spec.network_id for spec in netstore.specs(self._host.paths)]
            return [one for one in wanted if not networks.stands(self._host, one)]
        except (CumuletError, OSError):
            log.exception("switches not seen")
            return []

    def _mend_cables(self) -> bool:
        try:
            if not cables.stand(self._host):
                cables.ensure(self._host)
        except (CumuletError, OSError) as error:
            log.warning("no cables to other hosts", reason=str(error))
            return False
        return True

    def _mend_tunnel(self) -> bool:
        try:
            if not networks.tunnel_lives(self._host):
                networks.ensure_tunnel(self._host)
        except Exception:
            log.exception("no tunnel to other hosts")
            return False
        return True
