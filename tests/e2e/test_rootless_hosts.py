"""Hosts whose agents have no privilege, beside root's in one cloud."""

from __future__ import annotations

from pathlib import Path

import httpx
import psutil
import pytest

from deploy import accounts, guests, logins, processes
from deploy.cloud import Cloud
from deploy.hosts import DESK, CloudHost
from tests.e2e.world import World

pytestmark = pytest.mark.rootless


@pytest.fixture(scope="module")
def token(rootless_cloud: Cloud) -> str:
    return guests.ensure_token(rootless_cloud)


def rootless(cloud: Cloud) -> list[CloudHost]:
    return [host for host in cloud.hosts if host.rootless]


def programs(world: World) -> list[psutil.Process]:
    """All that runs on hosts without privileges: agents, monitors, guests and their helpers."""
    lab = world.cloud.lab
    paths = [lab.path(lab.namespace(host.name)) for host in rootless(world.cloud)]
    return processes.in_namespaces(paths)


def test_both_kinds_of_host_join_and_say_which_they_are(desk: World, token: str) -> None:
    hosts = httpx.get(
        f"{desk.cloud.instance.api_url}/hosts", headers={"Authorization": f"Bearer {token}"}
    ).json()["hosts"]
    seen = {host["name"]: (host["network_mode"], host["location"]["name"]) for host in hosts}
    assert seen == {
        **{f"h{number}": ("routed", "lab") for number in (1, 2, 3)},
        **{f"r{number}": ("vde", DESK) for number in (1, 2)},
    }


def test_nothing_on_such_a_host_has_a_capability_or_can_get_one(desk: World) -> None:
    desk.create("first")
    running = programs(desk)
    assert any(process.name().startswith("qemu-system") for process in running)
    for process in running:
        status = Path(f"/proc/{process.pid}/status").read_text()
        for line in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"):
            assert f"{line}:\t0000000000000000" in status, (process, line)
        assert "NoNewPrivs:\t1" in status
        assert process.username() == accounts.ROOTLESS


def test_its_guest_is_reached_from_outside_by_the_port_that_the_api_shows(
    desk: World, token: str
) -> None:
    server = desk.create("first")
    login = logins.of_server(desk.cloud.instance, token, server.name)
    assert login.host.startswith("192.0.2.2")
    logins.write_ssh_config(desk.cloud.instance, [login])
    assert guests.wait_for_ssh(desk.cloud.instance, login.name, seconds=60).startswith("first ")


def test_other_users_of_the_machine_find_its_doors_closed(desk: World) -> None:
    desk.create("first")
    for host in rootless(desk.cloud):
        for place in (host.state, host.run):
            assert place.stat().st_mode & 0o777 == 0o700
            assert place.owner() == accounts.ROOTLESS
        assert host.bundle.stat().st_mode & 0o777 == 0o600
