"""Reads the counters of all VMs at once, for the scrape and for the usage that control keeps.

Disk numbers come over the connection that each VM's watch holds anyway. A QEMU that does not
answer costs its own VM those numbers and nobody anything else.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import structlog

from cloud.errors import CumuletError
from vms.host import qemu, store, wiring
from vms.host.counters import (
    Counters,
    DiskCounters,
    ProcessCounters,
    Units,
    parse_blockstats,
    parse_stat,
)
from vms.host.host import Host
from vms.host.outbox import Outbox
from vms.host.qmp import QmpFailure
from vms.host.rates import usages
from vms.host.wiring import Count
from vms.spec import UsageReport, VmSpec

log = structlog.get_logger(__name__)

USAGE_SECONDS = 60.0
QMP_SECONDS = 1.5
_UNITS = Units(os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE"))

Answer = TypeVar("Answer")

# Has a VM's QEMU execute a command; raises QmpFailure.
Ask = Callable[[int, str], Awaitable[Any]]


class Meter:
    """All VMs' counters, however their guests fare."""

    def __init__(self, host: Host, ask: Ask) -> None:
        self._host = host
        self._ask = ask
        # Its own, so that no converge that hangs is in the way.
        self._thread = ThreadPoolExecutor(1, "meter")

    async def read(self) -> list[Counters]:
        """All VMs of the host; ends within about QMP_SECONDS."""
        seen = await self.apart(self._from_kernel)
        return await asyncio.gather(*map(self._with_disks, seen))

    async def apart(self, work: Callable[[], Answer]) -> Answer:
        """Do blocking work of a scrape in the thread that nothing else waits in."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown(wait=False)

    def _from_kernel(self) -> list[Counters]:
        count = wiring.of(self._host).counting()
        found = []
        for vm_id in store.vm_ids(self._host):
            try:
                spec = store.spec(self._host.paths.vm(vm_id))
            except CumuletError as error:
                log.warning("not measured", vm=vm_id, code=error.code)
                continue
            if spec:
                found.append(self._of(spec, count))
        return found

    def _of(self, spec: VmSpec, count: Count) -> Counters:
        paths = self._host.paths.vm(spec.vm_id)
        return Counters(
            vm_id=spec.vm_id,
            name=spec.hostname,
            memory_mb=spec.memory_mb,
            at=time.monotonic(),
            process=_process(qemu.named(spec.uuid, paths)),
            disks=None,
            nics=count(spec),
        )

    async def _with_disks(self, counters: Counters) -> Counters:
        if counters.process is None:
            return counters
        return replace(counters, disks=await self._disks(counters.vm_id))

    async def _disks(self, vm_id: int) -> dict[int, DiskCounters] | None:
        try:
            async with asyncio.timeout(QMP_SECONDS):
                return parse_blockstats(await self._ask(vm_id, "query-blockstats"))
        except (QmpFailure, TimeoutError) as error:
            log.debug("disks not measured", vm=vm_id, reason=str(error))
            return None


class Sampler:
    """Tells control what VMs used between one reading and the next."""

    def __init__(self, host: Host, meter: Meter, outbox: Outbox) -> None:
        self._host = host
        self._meter = meter
        self._outbox = outbox
        self._before: list[Counters] = []

    async def take(self) -> None:
        after = await self._meter.read()
        found = usages(self._before, after)
        self._before = after
        if found:
            report = UsageReport(host_uuid=self._host.uuid, at=time.time(), usages=found)
            await asyncio.to_thread(self._outbox.usage, report)


def _process(process: qemu.Process | None) -> ProcessCounters | None:
    if process is None:
        return None
    try:
        return parse_stat(Path(f"/proc/{process.pid}/stat").read_text(), _UNITS)
    except OSError:
        return None  # it ended meanwhile
