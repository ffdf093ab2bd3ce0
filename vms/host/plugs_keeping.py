"""Guests in user mode under the monitor's eyes: a cable that hangs loose, or a way outside that
ended, is seen within a moment, and the VM is looked at, which mends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from cloud.errors import CumuletError
from networks.spec import Presence
from vms.host import qemu, store
from vms.host.host import Host
from vms.host.vde_plugs import VdePlugs
from vms.spec import VmSpec

log = structlog.get_logger(__name__)

PLUG_SECONDS = 1.0
# One that cannot be mended is tried again by the sweep.
_ATTEMPTS = 5
# So many are looked at at once; what happens to other guests needs threads, too.
_LOOKERS = 4


class Plugs:
    """All guests of this host. `look` converges a VM and never raises."""

    def __init__(self, host: Host, look: Callable[[int], Awaitable[object]]) -> None:
        self._host = host
        self._look = look
        self._attempts: dict[int, int] = {}
        self._looked_at: set[int] = set()
        self._lookers = asyncio.Semaphore(_LOOKERS)

    async def tend(self) -> None:
        """Until it is cancelled. Elsewhere the kernel keeps links as they are."""
        async with asyncio.TaskGroup() as looks:
            while not self._host.routes_networks:
                await asyncio.sleep(PLUG_SECONDS)
                loose = await asyncio.to_thread(self._loose)
                self._attempts = {vm_id: self._attempts.get(vm_id, 0) for vm_id in loose}
                for vm_id in loose:
                    if vm_id not in self._looked_at and self._attempts[vm_id] < _ATTEMPTS:
                        self._attempts[vm_id] += 1
                        self._looked_at.add(vm_id)
                        looks.create_task(self._look_at(vm_id))

    async def _look_at(self, vm_id: int) -> None:
        """Nobody waits for it, as one that hangs must not keep others from being mended."""
        try:
            async with self._lookers:
                await self._look(vm_id)
        finally:
            self._looked_at.discard(vm_id)

    def _loose(self) -> list[int]:
        presence = VdePlugs(self._host).looking()
        try:
            return [vm_id for vm_id in store.vm_ids(self._host) if self._is_loose(vm_id, presence)]
        except OSError:
            log.exception("guests not seen")
            return []

    def _is_loose(self, vm_id: int, presence: Callable[[VmSpec], Presence]) -> bool:
        paths = self._host.paths.vm(vm_id)
        with suppress(CumuletError):  # whoever looks at the VM says what is wrong with it
            spec = store.spec(paths)
            if spec and spec.nics and qemu.named(spec.uuid, paths):
                return presence(spec) is Presence.PART
        return False
