"""A host is heard of, whatever its guests and its networks are at."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from networks.host import processes
from tests.documents import HOST_REPORT, HOST_UUID, SPEC
from tests.unit.hosts import a_host
from vms.host import monitor, reporting, store
from vms.host.host import Host
from vms.host.leftovers import Leftovers
from vms.host.outbox import BROKER
from vms.host.watch import Watch
from vms.spec import HostReport, SeenVm, UnchangedReport

# More than the monitor has threads.
MANY = 64


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(Host, "routes_networks", False)
    monkeypatch.setattr(processes, "running", lambda _: {})
    return a_host(tmp_path)


def test_guests_that_all_start_at_once_hold_up_nothing_that_others_need(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, over = threading.Semaphore(0), threading.Event()

    def start(*_: object, **__: object) -> bool:
        begun.release()
        return over.wait(10)

    for vm_id in range(1, MANY + 1):
        uuid = f"00000000-0000-4000-8000-{vm_id:012}"
        store.accept(host, structs.replace(SPEC, vm_id=vm_id, uuid=uuid))
    monkeypatch.setattr(monitor, "converge", start)
    monkeypatch.setattr(Watch, "_said_to_run", lambda _: True)
    monkeypatch.setattr("vms.host.bridging.prepare", lambda _: None)
    monkeypatch.setattr("vms.host.facts.host_report", lambda _: HOST_REPORT)
    monkeypatch.setattr(reporting, "HEARTBEAT_SECONDS", 0.05)
    heard: list[HostReport] = []

    def hear(report: HostReport) -> bool:
        heard.append(report)
        return True

    async def until(met: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not met():
                await asyncio.sleep(0.01)

    async def run() -> None:
        task = asyncio.create_task(monitor.Monitor(host, replace(BROKER, host=hear)).run())
        try:
            await until(lambda: begun.acquire(blocking=False))
            await asyncio.sleep(0.2)
            before = len(heard)
            await until(lambda: len(heard) > before + 2)
            async with asyncio.timeout(5):  # a network, an image
                await asyncio.to_thread(lambda: None)
        finally:
            over.set()
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(run())


def test_nothing_is_written_once_the_monitor_has_ended(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def write(_: Host) -> HostReport:
        begun.set()
        time.sleep(0.2)
        ended.set()
        return HOST_REPORT

    monkeypatch.setattr("vms.host.bridging.prepare", lambda _: None)
    monkeypatch.setattr("vms.host.facts.host_report", write)

    async def run() -> None:
        task = asyncio.create_task(monitor.Monitor(host, BROKER).run())
        await asyncio.to_thread(begun.wait, 5)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(run())
    assert ended.is_set()


def test_the_monitor_goes_on_where_it_cannot_look_for_unsent_reports(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with too many open files: the next heartbeat looks again."""
    beats = threading.Semaphore(0)

    def hear(_: HostReport) -> bool:
        beats.release()
        return True

    monkeypatch.setattr("vms.host.bridging.prepare", lambda _: None)
    monkeypatch.setattr("vms.host.facts.host_report", lambda _: HOST_REPORT)
    monkeypatch.setattr(reporting, "HEARTBEAT_SECONDS", 0.01)
    host.paths.unsent.rmdir()

    async def run() -> None:
        task = asyncio.create_task(monitor.Monitor(host, replace(BROKER, host=hear)).run())
        try:
            for _ in range(3):
                assert await asyncio.to_thread(beats.acquire, timeout=5)
        finally:
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(run())


def test_documents_of_all_servers_are_not_read_in_the_loop_that_hears_their_events(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[threading.Thread] = []

    def told(_: Host, vm_id: int) -> SeenVm:
        readers.append(threading.current_thread())
        return SeenVm(vm_id, HOST_UUID, 1)

    sent: list[UnchangedReport] = []
    outbox = replace(BROKER, unchanged=lambda report: not sent.append(report))
    monkeypatch.setattr(reporting, "told", told)
    reporter = reporting.Reporter(host, outbox, Leftovers(host), {})
    asyncio.run(reporter.unchanged([1, 2], ()))
    assert [vm.vm_id for vm in sent[0].vms] == [1, 2]
    assert threading.current_thread() not in readers
