"""One VM under the monitor's eyes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.documents import SPEC
from tests.unit.hosts import a_host
from vms.host import store, watch
from vms.host.host import Host
from vms.host.memory import VmMemory
from vms.host.watch import Watch


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return a_host(tmp_path)


def test_a_document_that_was_damaged_for_a_while_costs_the_guest_no_attention(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = host.paths.vm(SPEC.vm_id)
    store.accept(host, SPEC)
    store.remember(paths, VmMemory(guest_since=1.0))
    readable = paths.spec.read_bytes()
    monkeypatch.setattr(watch, "frames", lambda *_: 0)
    looked = asyncio.Event()

    async def look(_: int) -> None:
        looked.set()

    async def insist() -> None:
        watched = Watch(host, SPEC.vm_id, look)
        insisting = asyncio.create_task(watched._insist())
        paths.spec.write_text("{")
        watched.poke()
        await asyncio.sleep(0.1)
        assert not looked.is_set()
        paths.spec.write_bytes(readable)
        watched.poke()
        await asyncio.wait_for(looked.wait(), 5)
        insisting.cancel()

    asyncio.run(insist())
