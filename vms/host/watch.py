"""One VM under the monitor's eyes: its events as they come, and patience where that is needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from qemu.qmp import QMPClient

from vms.host import qemu, qmp, store
from vms.host.host import Host
from vms.host.memory import VmMemory, is_patient
from vms.host.observe import frames
from vms.spec import Power, VmReport

log = structlog.get_logger(__name__)

# After a connection that did not come about.
_RETRY_SECONDS = 2.0
_PATIENCE_SECONDS = 1.0
# How often a guest that was started is listened for.
_LISTEN_SECONDS = 0.25
# A guest that is let go on may find no room again at once: so long passes between two attempts.
_STALL_SECONDS = 3.0
# Somebody else may be at the VM, and then a look changes nothing at once.
_CALM_SECONDS = 0.1


class Watch:
    """Looks at the VM when its guest goes off or stalls, when QEMU ends, while something is due.

    `look` converges the VM and never raises. Whoever changed the VM calls `poke`.
    """

    def __init__(self, host: Host, vm_id: int, look: Callable[[int], Awaitable[object]]) -> None:
        self._host = host
        self._vm_id = vm_id
        self._paths = host.paths.vm(vm_id)
        self._look = look
        self._client: QMPClient | None = None
        self._poked = asyncio.Event()
        self._changed = asyncio.Event()
        self._went_off = asyncio.Event()
        self._paused = asyncio.Event()

    def poke(self) -> None:
        self._poked.set()
        self._changed.set()

    async def run(self) -> None:
        """Until the VM is removed from this host."""
        works = (
            self._heed(self._went_off),
            self._heed(self._paused, _STALL_SECONDS),
            self._insist(),
        )
        helpers = [asyncio.create_task(work) for work in works]
        try:
            await self._listen()
        finally:
            for helper in helpers:
                helper.cancel()

    async def _listen(self) -> None:
        """Stay connected to whichever QEMU serves the VM, and see it end."""
        while self._paths.state.exists():
            self._poked.clear()
            if await asyncio.to_thread(self._lives):
                await self._hear()
            elif not await asyncio.to_thread(self._said_to_run):
                await self._poked.wait()
                continue
            await self._look(self._vm_id)
            await asyncio.sleep(_CALM_SECONDS)

    async def ask(self, command: str) -> Any:
        """QEMU's answer to a command, beside its events; raises QmpFailure.

        The other socket belongs to whoever changes the VM.
        """
        if self._client is None:
            raise qmp.QmpAbsent(f"no connection to QEMU of server #{self._vm_id}: try again")
        return await qmp.execute(self._client, command)

    async def _hear(self) -> None:
        try:
            async with qmp.connected(self._paths.events) as self._client:
                await qmp.listen(self._client, self._went_off.set, self._paused.set)
        except qmp.QmpFailure as error:
            log.warning("no events", vm=self._vm_id, code=error.code, reason=error.message)
            await asyncio.sleep(_RETRY_SECONDS)
        finally:
            self._client = None

    async def _heed(self, event: asyncio.Event, rest: float = 0.0) -> None:
        """Beside `_listen`, so that events during a look are not lost.

        What happens in the `rest` after a look (seconds) is looked at when it is over.
        """
        while True:
            await event.wait()
            event.clear()
            await self._look(self._vm_id)
            await asyncio.sleep(rest)

    async def _insist(self) -> None:
        """What is under way is looked at again soon: a guest may not have heard its button.

        What goes wrong here, as with a document that is damaged, ends one round only: the look
        that finds all well again is heard of as a change.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._insist_once()
            except Exception:
                log.exception("not insisted", vm=self._vm_id)

    async def _insist_once(self) -> None:
        while await asyncio.to_thread(self._under_way):
            await asyncio.sleep(_PATIENCE_SECONDS)
            await self._look(self._vm_id)
        while not self._changed.is_set() and await asyncio.to_thread(self._guest_is_quiet):
            await asyncio.sleep(_LISTEN_SECONDS)
        # A look is heard of here as a change: without a rest one would lead to the next.
        if not self._changed.is_set() and await asyncio.to_thread(self._awaits_guest):
            await self._look(self._vm_id)
            await asyncio.sleep(_CALM_SECONDS)

    def _lives(self) -> bool:
        wanted = store.wanted(self._paths)
        return wanted is not None and qemu.find(wanted.uuid, self._paths) is not None

    def _said_to_run(self) -> bool:
        """Whether control was told so: a QEMU may end before anybody listened to it."""
        told = store.memory(self._paths).told
        return told is not None and told.power is Power.RUNNING

    def _awaits_guest(self) -> bool:
        return bool(store.memory(self._paths).guest_since)

    def _guest_is_quiet(self) -> bool:
        """Whether its first frame is awaited and has not come; a look would show nothing new."""
        memory, spec = store.memory(self._paths), store.spec(self._paths)
        patient = is_patient(memory.guest_since, time.time())
        quiet = spec is not None and frames(self._host, spec) <= memory.guest_frames
        return bool(memory.guest_since) and patient and quiet

    def _under_way(self) -> bool:
        memory = store.memory(self._paths)
        told = memory.told
        if told is None or told.failure is not None:
            return False
        return not told.converged or self._asks_for_address(memory, told)

    def _asks_for_address(self, memory: VmMemory, told: VmReport) -> bool:
        """Whether the outside network has yet to give one to a guest that was just started."""
        spec = store.spec(self._paths)
        asking = {nic.index for nic in spec.nics if nic.dhcp} if spec else set()
        known = {nic.index for nic in told.nics if nic.learned}
        patient = is_patient(memory.started_at, time.time())
        return told.power is Power.RUNNING and patient and bool(asking - known)
