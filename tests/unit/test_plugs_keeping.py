"""How guests whose cables hang loose are seen to."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest
from msgspec import structs

from cloud.hostconfig import HostConfig
from networks.host import switches
from networks.host.switch_console import SwitchSilent
from networks.host.switches import Switch
from networks.spec import NicSpec, Presence
from tests.documents import HOST_UUID, a_spec
from vms.host import plugs_keeping, qemu, store, user_mode
from vms.host.host import Host
from vms.host.paths import HostPaths
from vms.host.plugs_keeping import Plugs
from vms.host.user_mode import Near
from vms.host.vde_plugs import VdePlugs
from vms.spec import VmSpec

HUNG, HEALTHY = 7, 8
PID = 4711


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    place = tmp_path_factory.mktemp("h")  # `tmp_path` may be too long for a socket
    paths = HostPaths(place / "state", place / "run")
    host = Host(HostConfig("h1", "amqp://", paths.state, paths.run), paths, HOST_UUID, "boot", None)
    host.__dict__["routes_networks"] = False
    return host


def guests(count: int) -> list[VmSpec]:
    """Each in one private network, and behind the host as well."""
    nics = (
        NicSpec(nic_id=1, index=0, mac="02:00:00:00:00:01", mode="user"),
        NicSpec(nic_id=2, index=1, mac="02:00:00:00:00:02", mode="private", network_id=5),
    )
    return [structs.replace(a_spec(), vm_id=number, nics=nics) for number in range(count)]


def test_a_guest_that_hangs_keeps_no_other_from_being_mended(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    loose = [[HUNG], [HUNG, HEALTHY]]
    monkeypatch.setattr(plugs_keeping, "PLUG_SECONDS", 0)
    monkeypatch.setattr(Plugs, "_loose", lambda _: loose.pop(0) if loose else [])
    mended = asyncio.Event()
    looked_at = []

    async def look(vm_id: int) -> None:
        looked_at.append(vm_id)
        await (asyncio.Event().wait() if vm_id == HUNG else asyncio.sleep(0))
        mended.set()

    async def watch() -> None:
        tending = asyncio.create_task(Plugs(host, look).tend())
        await asyncio.wait_for(mended.wait(), 5)
        tending.cancel()

    asyncio.run(watch())
    assert looked_at == [HUNG, HEALTHY]


def test_a_look_that_the_kernel_refuses_ends_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def vm_ids(_: Host) -> list[int]:
        looks.append("look")
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(plugs_keeping, "PLUG_SECONDS", 0.001)
    monkeypatch.setattr(store, "vm_ids", vm_ids)

    async def watch() -> None:
        tending = asyncio.create_task(Plugs(host, lambda _: asyncio.sleep(0)).tend())
        while len(looks) < 3 and not tending.done():
            await asyncio.sleep(0.001)
        assert tending.cancel()

    asyncio.run(watch())


def test_each_switch_is_asked_once_for_all_guests(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def plugged(switch: Switch) -> frozenset[int]:
        asked.append(switch.place)
        raise SwitchSilent("it is stopped")

    def near(host: Host) -> Near:
        asked.append(host)
        raise user_mode.BrokerUnknown("no name server answers")

    monkeypatch.setattr(switches, "is_alive", lambda _: True)
    monkeypatch.setattr(switches, "plugged", plugged)
    monkeypatch.setattr(user_mode, "near", near)
    monkeypatch.setattr(qemu, "find", lambda *_: qemu.Process(PID, 0))
    presence = VdePlugs(host).looking()
    assert {presence(guest) for guest in guests(100)} == {Presence.ALL}
    assert asked == [host, host.paths.switch(5)]
