"""The host's watchman: `python -m vms.host.monitor`, one asyncio process beside the agent.

It hears QEMU's events, starts what should run (also after a reboot of the host, with the broker
away), tells control that the host lives and what its VMs use, and makes up for whatever got lost
elsewhere. Blocking work runs in threads, so one VM that hangs holds up no other.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import compress
from typing import Any

import structlog

from cloud import requestid
from cloud.agent import config, start_logging
from cloud.errors import CumuletError
from vms.host import bell, bridging, exposition, leases, store, trim
from vms.host.converge import converge
from vms.host.documents import DamagedStore
from vms.host.gallery import Gallery, waiting
from vms.host.host import Host
from vms.host.keeping import Networks
from vms.host.leftovers import Leftovers
from vms.host.meter import USAGE_SECONDS, Meter, Sampler
from vms.host.outbox import BROKER, Outbox
from vms.host.paths import number_of
from vms.host.plugs_keeping import Plugs
from vms.host.qmp import QmpAbsent
from vms.host.reporting import Reporter
from vms.host.scrape import serving
from vms.host.surveyor import Surveyor
from vms.host.watch import Watch

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 30.0
# Every second sweep tells control everything, whether or not it changed.
_TELL_ALL_EVERY = 2
_GALLERY_SECONDS = 2.0
_DHCP_SECONDS = 2.0
_CANCEL_SECONDS = 1.0
# So many VMs are swept at once; events do not wait for a sweep.
_SWEEPERS = 4
# So many others are looked at at once, each in a thread that may wait for its QEMU.
_LOOKERS = 16
# The rest is for what all guests need: networks, DHCP, images.
_THREADS = _SWEEPERS + _LOOKERS + 8
_BELL_BYTES = 64


class Monitor:
    """`run` ends when it is cancelled; guests and downloads go on without it."""

    def __init__(self, host: Host, outbox: Outbox, *, usage_seconds: float = USAGE_SECONDS) -> None:
        self._host = host
        self._outbox = outbox
        self._usage_seconds = usage_seconds
        self._meter = Meter(host, self._ask)
        self._gallery = Gallery(host, outbox.image)
        self._leftovers = Leftovers(host)
        self._surveyor = Surveyor(host, outbox.inventory)
        self._networks = Networks(host, outbox.network, self._look_at)
        self._watches: dict[int, Watch] = {}
        self._unreadable: dict[int, DamagedStore] = {}
        self._reporter = Reporter(host, outbox, self._leftovers, self._unreadable)
        self._tasks: set[asyncio.Task[object]] = set()
        self._images_wanted = asyncio.Event()
        self._sweepers = asyncio.Semaphore(_SWEEPERS)
        self._lookers = asyncio.Semaphore(_LOOKERS)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_THREADS, "monitor"))
        with bell.listen(self._host.paths) as listener:
            loop.add_reader(listener, lambda: self._rung(listener.recv(_BELL_BYTES)))
            try:
                async with (
                    serving(self._host.config.metrics, self._metrics),
                    asyncio.TaskGroup() as group,
                ):
                    group.create_task(self._reporter.beat(self._heard))
                    group.create_task(self._sweep())
                    group.create_task(self._tend_images())
                    group.create_task(self._sample())
                    group.create_task(self._tend_dhcp())
                    group.create_task(self._networks.tend())
                    group.create_task(Plugs(self._host, self._look_at).tend())
            finally:
                loop.remove_reader(listener)
                self._host.paths.bell.unlink(missing_ok=True)
                self._meter.close()
                await self._end_tasks()
                await asyncio.to_thread(self._reporter.close)

    async def _end_tasks(self) -> None:
        """Told more than once: a library may forget a cancellation that comes at a bad moment."""
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)

    def _heard(self, anew: bool) -> None:
        """Control hears of this host; `anew`: it may have missed whatever was told before."""
        if anew:
            self._start(self._networks.look_at_all(insist=True))
            self._start(self._look_at_all(insist=True))
            return
        try:
            unsent = list(self._host.paths.unsent.iterdir())
        except OSError:  # the next heartbeat looks again
            log.exception("unsent reports not looked for")
            return
        for path in unsent:
            if (vm_id := number_of(path.name)) is not None:
                self._start(self._look_at(vm_id))

    async def _sweep(self) -> None:
        """The guarantee: what no event and no message brought about comes at last."""
        for rounds in itertools.count():
            try:
                await self._sweep_once(tell_all=rounds % _TELL_ALL_EVERY == 0)
            except (CumuletError, OSError):
                log.exception("sweep broken off")
            await asyncio.sleep(SWEEP_SECONDS)

    async def _sweep_once(self, *, tell_all: bool) -> None:
        await asyncio.to_thread(bridging.prepare, self._host)
        if tell_all:
            networks = await self._networks.unchanged()
            await self._reporter.unchanged(await self._look_at_all(counters=True), networks)
        else:
            await self._networks.look_at_all(insist=False)
            await self._look_at_all()
        await asyncio.to_thread(trim.trim_all, self._host.paths.logs)
        await asyncio.to_thread(self._leftovers.sweep)
        await asyncio.to_thread(self._surveyor.sweep)

    async def _look_at_all(self, *, insist: bool = False, counters: bool = False) -> list[int]:
        """Answers those that could be looked at."""

        async def look(vm_id: int) -> bool:
            async with self._sweepers:
                looked = await self._look(vm_id, insist=insist, counters=counters)
            paths = self._host.paths.vm(vm_id)
            trim.trim(paths.console)
            trim.trim(paths.log)
            return looked

        vm_ids = store.vm_ids(self._host)
        for vm_id in vm_ids:
            self._watch(vm_id)
        looked = await asyncio.gather(*map(look, vm_ids))
        await asyncio.gather(*map(look, store.half_forgotten_ids(self._host)))
        return list(compress(vm_ids, looked))

    async def _tend_images(self) -> None:
        while True:
            self._images_wanted.clear()
            try:
                for image in await asyncio.to_thread(self._gallery.tend):
                    for vm_id in waiting(self._host, image):
                        self._start(self._look_at(vm_id))
            except (CumuletError, OSError):
                log.exception("images not tended")
            with suppress(TimeoutError):
                async with asyncio.timeout(_GALLERY_SECONDS):
                    await self._images_wanted.wait()

    async def _tend_dhcp(self) -> None:
        while True:
            try:
                await asyncio.to_thread(leases.tend, self._host)
            except (CumuletError, OSError):
                log.exception("no DHCP server")
            await asyncio.sleep(_DHCP_SECONDS)

    async def _sample(self) -> None:
        """What VMs use, for control to keep."""
        sampler = Sampler(self._host, self._meter, self._outbox)
        while True:
            with requestid.bound(requestid.fresh()):
                try:
                    await sampler.take()
                except Exception:
                    log.exception("usage not measured")
            await asyncio.sleep(self._usage_seconds)

    async def _metrics(self) -> bytes:
        readings = await self._meter.read()
        text = partial(exposition.text, self._host, self._reporter.heard_at, readings)
        return await self._meter.apart(text)

    async def _ask(self, vm_id: int, command: str) -> Any:
        watch = self._watches.get(vm_id)
        if watch is None:
            raise QmpAbsent(f"server #{vm_id} is not watched yet: try again")
        return await watch.ask(command)

    def _rung(self, message: bytes) -> None:
        if message == bell.IMAGES.encode():
            self._images_wanted.set()
        elif message.startswith(bell.NETWORK.encode()):
            self._networks.poke(int(message.removeprefix(bell.NETWORK.encode())))
        elif message.isdigit():
            self._watch(int(message))

    def _watch(self, vm_id: int) -> None:
        """Have the VM watched; its watch hears that something about it changed."""
        if vm_id not in self._watches:
            if not self._host.paths.vm(vm_id).state.exists():
                return
            self._watches[vm_id] = Watch(self._host, vm_id, self._look_at)
            task = self._start(self._watches[vm_id].run())
            task.add_done_callback(lambda _: self._watches.pop(vm_id, None))
        self._watches[vm_id].poke()

    async def _look_at(self, vm_id: int) -> None:
        """Because something about the VM changed. All may start at once, as after a reboot."""
        async with self._lookers:
            await self._look(vm_id)

    async def _look(self, vm_id: int, *, insist: bool = False, counters: bool = False) -> bool:
        """Converge one VM; whatever is wrong with it stays its own trouble. Whether it was done.

        A look has an id of its own, unless it goes on with what a request asked for.
        """
        with requestid.bound(requestid.fresh()):
            try:
                sent = await asyncio.to_thread(
                    converge,
                    self._host,
                    vm_id,
                    self._outbox.vm,
                    insist=insist,
                    counters=counters,
                )
                self._unreadable.pop(vm_id, None)
                return sent
            except DamagedStore as error:
                log.error("look failed", vm=vm_id, code=error.code, reason=error.message)
                self._unreadable[vm_id] = error
                return False
            except Exception:
                log.exception("look failed", vm=vm_id)
                return False

    def _start(self, work: Coroutine[None, None, object]) -> asyncio.Task[object]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_complain)
        return task


def _complain(task: asyncio.Task[object]) -> None:
    if task.cancelled() or not (error := task.exception()):
        return
    if isinstance(error, CumuletError):
        log.error("task failed", code=error.code, reason=error.message)
    else:
        log.error("task failed", exc_info=error)


async def _run_until_told() -> None:
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with suppress(asyncio.CancelledError):
        await Monitor(Host.open(config()), BROKER).run()


def main() -> None:
    start_logging("monitor")
    asyncio.run(_run_until_told())


if __name__ == "__main__":
    main()
