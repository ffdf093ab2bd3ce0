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
from vms.host import qemu, store, wiring
from vms.host.host import Host

log = structlog.get_logger(__name__)

PLUG_SECONDS = 1.0
# One that cannot be mended is tried again by the sweep.
_ATTEMPTS = 5


class Plugs:
    """All guests of this host. `look` converges a VM and never raises."""

    def __init__(self, host: Host, look: Callable[[int], Awaitable[None]]) -> None:
        self._host = host
        self._look = look
        self._attempts: dict[int, int] = {}

    async def tend(self) -> None:
        """Until it is cancelled. Elsewhere the kernel keeps links as they are."""
        while not self._host.routes_networks:
            await asyncio.sleep(PLUG_SECONDS)
            loose = await asyncio.to_thread(self._loose)
            self._attempts = {vm_id: self._attempts.get(vm_id, 0) + 1 for vm_id in loose}
            for vm_id in loose:
                if self._attempts[vm_id] <= _ATTEMPTS:
                    await self._look(vm_id)

    def _loose(self) -> list[int]:
        return [vm_id for vm_id in store.vm_ids(self._host) if self._is_loose(vm_id)]

    def _is_loose(self, vm_id: int) -> bool:
        paths = self._host.paths.vm(vm_id)
        with suppress(CumuletError):  # whoever looks at the VM says what is wrong with it
            spec = store.spec(paths)
            if spec and spec.nics and qemu.named(spec.uuid, paths):
                return wiring.of(self._host).presence(spec) is Presence.PART
        return False
