"""An older backup beside newer hosts, with real guests: nothing that runs is lost."""

from __future__ import annotations

import stat
from pathlib import Path

import httpx
import pytest
from hcloud import APIException
from hcloud.servers.client import BoundServer

from deploy import control, guests
from tests.e2e.world import World, until

pytestmark = [pytest.mark.faults]


def restore(world: World, file: Path) -> str:
    instance = world.cloud.instance
    with control.stopped(instance):
        said = world.cloud.manage([["restore", str(file), "--replace"]])[0]
    world.cloud.supervisor.wait(control.WEB, lambda: control.web_ready(instance), seconds=60)
    return said


def pid_of(world: World, server: BoundServer) -> int:
    (process,) = world.guests_with(f"/{server.id}/")
    return process.pid


def test_an_older_backup_beside_newer_hosts_destroys_nothing_and_is_found_out(
    world: World,
) -> None:
    home = control.bundle(world.cloud.instance, "x").parent
    file = home / "cloud.backup"
    kept, gone, switched = world.create_all("kept", "gone", "switched")
    world.wait_for_ssh(kept)

    said = world.cloud.manage([["backup", str(file), "--force"]])[0]
    assert "3 servers" in said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    later = world.create("later")
    boots = {server.name: world.boot_id(server) for server in (kept, later)}
    pids = {server.name: pid_of(world, server) for server in (kept, later)}
    world.api.servers.delete(gone)
    world.wait_for_status(gone, "gone")
    world.api.servers.power_off(switched)
    world.wait_for_status(switched, "off")

    said = restore(world, file)
    assert "restored the inventory" in said
    saved = Path(said.split("what was there before is in ")[1].splitlines()[0])

    # The hosts say what they have: what was wanted last is wanted still.
    world.wait_for_status(kept, "running", seconds=90)
    world.wait_for_status(switched, "off", seconds=90)
    until(lambda: _refused(world, gone) == "server_not_on_host", "it is found out", seconds=90)
    assert world.status(gone) == "unknown"
    assert {s.name: pid_of(world, s) for s in (kept, later)} == pids
    assert {s.name: world.boot_id(s) for s in (kept, later)} == boots

    # New servers get neither the number nor the address of one that the inventory forgot.
    until(lambda: _can_create(world, "new"), "addresses are lent again", seconds=90)
    new = world.api.servers.get_by_name("new")
    assert new is not None
    assert guests.address(new) != guests.address(later)
    assert new.id > later.id
    world.wait_for_status(new, "running", seconds=60)
    assert world.boot_id(later) == boots["later"]

    until(lambda: later.id in _unknown_servers(world), "drift lists it", seconds=150)

    # What cannot be had again is deleted, what was made anew too.
    for server in (gone, new):
        world.api.servers.delete(server)
        world.wait_for_status(server, "gone")

    # The inventory that was replaced knows the later server: with it everything is as it was.
    restore(world, saved)
    world.wait_for_status(later, "running", seconds=90)
    world.wait_for_status(kept, "running", seconds=90)
    assert {s.name: world.boot_id(s) for s in (kept, later)} == boots
    until(lambda: _reboots(world, kept), "its host has said what it has", seconds=90)
    until(lambda: world.boot_id(kept) != boots["kept"], "it obeys again", seconds=60)
    file.unlink()
    for path in home.glob("cloud.backup*"):
        path.unlink()


def _refused(world: World, server: BoundServer) -> str:
    try:
        world.api.servers.power_on(server)
    except APIException as error:
        return str(error.code)
    return ""


def _reboots(world: World, server: BoundServer) -> bool:
    try:
        world.api.servers.reboot(server).wait_until_finished(max_retries=240)
    except APIException as error:
        if error.code != "server_not_verified":
            raise
        return False
    return True


def _unknown_servers(world: World) -> set[int]:
    """Numbers of servers that hosts have and the inventory has not."""
    token = (world.cloud.instance.state / "token").read_text().strip()
    answer = httpx.get(
        f"{world.cloud.instance.api_url}/drift",
        params={"kind": "server", "direction": "extra"},
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )
    answer.raise_for_status()
    return {one["server_id"] for one in answer.json()["drift"]}


def _can_create(world: World, name: str) -> bool:
    try:
        world.create(name, wait=False)
    except APIException as error:
        if error.code != "resource_unavailable":
            raise
        return False
    return True
