"""One VM under the monitor's eyes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloud.hostconfig import HostConfig
from tests.documents import HOST_UUID, SPEC
from vms.host import store, watch
from vms.host.host import Host, _make_directories
from vms.host.memory import VmMemory
from vms.host.paths import HostPaths
from vms.host.watch import Watch


@pytest.fixture
def host(tmp_path: Path) -> Host:
    paths = HostPaths(tmp_path / "state", tmp_path / "run")
    _make_directories(paths, None)
    config = HostConfig("h1", "amqp://", paths.state, paths.run)
    return Host(config, paths, HOST_UUID, "boot-1", owner=None)


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
