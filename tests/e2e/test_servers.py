"""The life of a server, from the API down to a real guest that answers."""

from __future__ import annotations

import time

import psutil
import pytest
from hcloud.servers import BoundServer

from deploy import guests, processes
from tests.e2e.world import World, until

pytestmark = pytest.mark.first_vm


@pytest.fixture
def world(any_world: World) -> World:
    return any_world


def test_a_new_server_lets_its_key_in_and_knows_its_name(world: World) -> None:
    server = world.create("hello")
    assert world.wait_for_ssh(server).startswith("hello ")


def test_a_guest_that_powers_itself_off_is_seen_within_two_seconds(world: World) -> None:
    server = world.create("sleeper")
    world.wait_for_ssh(server)
    (guest,) = world.guest_processes()
    world.ssh(server, "(sleep 1; poweroff) >/dev/null 2>&1 &")
    until(lambda: not processes.alive(guest) or _halted(world, server), "guest ended", seconds=60)
    assert world.wait_for_status(server, "off") < 2


def test_shutdown_lets_the_guest_end_its_work_and_poweron_boots_it_again(world: World) -> None:
    server = world.create("gentle")
    first_boot = world.boot_id(server)
    world.api.servers.shutdown(server).wait_until_finished()
    world.wait_for_status(server, "off", seconds=60)
    assert world.guest_processes() == []
    world.api.servers.power_on(server).wait_until_finished()
    world.wait_for_status(server, "running")
    assert world.boot_id(server) != first_boot


def test_poweroff_cuts_the_power(world: World) -> None:
    server = world.create("abrupt")
    world.api.servers.power_off(server).wait_until_finished()
    assert world.status(server) == "off"
    assert world.guest_processes() == []


@pytest.mark.parametrize("press", ["reboot", "reset"])
def test_the_guest_boots_anew_after(press: str, world: World) -> None:
    server = world.create(press)
    before = world.boot_id(server)
    getattr(world.api.servers, press)(server).wait_until_finished()
    until(lambda: _boot_id_now(world, server) not in (before, ""), "a new boot", seconds=60)
    assert world.status(server) == "running"


def test_a_server_that_stays_off_has_no_process_until_it_is_switched_on(world: World) -> None:
    server = world.create("quiet")
    world.api.servers.power_off(server).wait_until_finished()
    time.sleep(7)  # two sweeps of control, one of the host
    assert world.status(server) == "off"
    assert world.guest_processes() == []


def test_restarting_agent_and_monitor_touches_no_guest(world: World) -> None:
    server = world.create("steady")
    boot = world.boot_id(server)
    (guest,) = world.guest_processes()
    host = world.host_of(server)
    for program in (host.agent, host.monitor):
        psutil.Process(world.cloud.supervisor.pid(program)).kill()
    until(lambda: world.cloud.supervisor.states()[host.agent] == "RUNNING", "agent", seconds=60)
    assert processes.alive(guest)
    assert world.boot_id(server) == boot
    assert world.status(server) == "running"


def test_two_guests_reach_each_other_across_hosts(lab_world: World) -> None:
    here, there = lab_world.create("here"), lab_world.create("there")
    lab_world.wait_for_ssh(here)
    lab_world.wait_for_ssh(there)
    assert lab_world.ssh(here, f"ping -c 1 -W 5 {guests.address(there)}").code == 0


def _boot_id_now(world: World, server: BoundServer) -> str:
    return world.ssh(server, "cat /proc/sys/kernel/random/boot_id").stdout.strip()


def _halted(world: World, server: BoundServer) -> bool:
    return world.status(server) == "off"
