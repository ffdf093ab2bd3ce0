"""A host loses its power: what should run comes back by itself, what should not stays off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import psycopg2
import pytest
from hcloud.networks import BoundNetwork
from hcloud.servers import BoundServer

from deploy import broker, control, guests, postgres, processes, reboot
from deploy.benchmarks.fault_records import Fault
from deploy.hosts import LabHost
from tests import records
from tests.e2e.test_private import network_of, private_ip, remove
from tests.e2e.world import World, until

pytestmark = pytest.mark.faults

# More than the lab has hosts of either kind, so that two servers share one.
MOST_SERVERS = 5
UPTIME = "cut -d' ' -f1 /proc/uptime"


@pytest.fixture
def world(any_world: World) -> World:
    return any_world


@pytest.fixture
def network(world: World) -> Iterator[BoundNetwork]:
    made = network_of(world.api, "office")
    yield made
    world.delete_all()
    remove(world.api, made)


@contextmanager
def control_away(world: World) -> Iterator[None]:
    """Neither the control plane nor the broker is there meanwhile."""
    supervisor, instance = world.cloud.supervisor, world.cloud.instance
    programs = (control.BEAT, control.WORKER, control.WEB)
    supervisor.stop(*programs)
    supervisor.stop(broker.NAME)
    try:
        yield
    finally:
        supervisor.start(broker.NAME)
        supervisor.wait(broker.NAME, lambda: broker.ready(instance), seconds=90)
        supervisor.start(*programs)
        supervisor.wait(control.WEB, lambda: control.web_ready(instance), seconds=90)


def restarted(world: World, host: LabHost) -> float:
    """Reboot the host; answers when it began to start, on the monotonic clock."""
    reboot.cut_power(world.cloud, host)
    assert on(world, host) == {}
    assert not host.run.exists()
    began = time.monotonic()
    reboot.give_power(world.cloud, host)
    return began


def on(world: World, host: LabHost) -> dict[int, psutil.Process]:
    """The QEMU of every server on the host, by the server's number."""
    inside = processes.in_namespace(host.namespace)
    found = {}
    for process in inside:
        if process.name().startswith("qemu"):
            place = next(word for word in process.cmdline() if str(host.run) in word)
            found[int(place.split(f"{host.run}/")[1].split("/")[0])] = process
    return found


def two_of_one_host_and_a_neighbour(
    world: World, network: BoundNetwork
) -> tuple[BoundServer, BoundServer, BoundServer]:
    """Servers of one network: two whose host is one, and one on another host."""
    made: list[BoundServer] = []
    hosts: list[str] = []
    while len(made) < MOST_SERVERS and not len(made) > len(set(hosts)) > 1:
        made.append(world.create(f"node-{len(made)}", networks=[network], wait=False))
        hosts += [host.name for host in until_on_a_host(world, made[-1])]
    assert len(made) > len(set(hosts)) > 1, f"{len(made)} servers are on {set(hosts)}"
    for server in made:
        world.wait_for_status(server, "running", seconds=60)
    first = next(n for n, host in enumerate(hosts) if hosts.count(host) > 1)
    second = hosts.index(hosts[first], first + 1)
    other = next(n for n, host in enumerate(hosts) if host != hosts[first])
    return made[first], made[second], made[other]


def logs_in(world: World, way: str) -> Callable[[str], str]:
    """Commands in a guest whose way in is known: the API need not be there."""
    return lambda command: guests.ssh(world.cloud.instance, way, command).stdout.strip()


def generations(world: World) -> dict[int, tuple[int, str]]:
    """What control wants of each server: how often that changed, and the power."""
    with psycopg2.connect(postgres.url(world.cloud.instance)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT id, generation, goal FROM vms_vm")
        return {number: (generation, goal) for number, generation, goal in cursor.fetchall()}


def boot_of(world: World, host: LabHost) -> str:
    return str(world.row_of(host)["boot_id"])


def test_servers_come_back_without_control_and_broker_and_those_that_are_off_stay_off(
    world: World, network: BoundNetwork
) -> None:
    runs, sleeps, neighbour = two_of_one_host_and_a_neighbour(world, network)
    host = world.host_of(runs)
    world.api.servers.power_off(sleeps).wait_until_finished()
    world.wait_for_ssh(neighbour)
    guest_boot, host_boot = world.boot_id(runs), boot_of(world, host)
    wanted, inside = generations(world), logs_in(world, world.way(runs))
    ping = f"ping -c1 -W1 {private_ip(neighbour)} >/dev/null && echo reached"
    actions = len(world.api.servers.get_actions(runs))

    with control_away(world):
        began = restarted(world, host)
        until(lambda: inside("hostname") == runs.name, "the guest lets us in", seconds=60)
        records.add(Fault(f"host reboot, {host.location}", round(time.monotonic() - began, 1)))
        assert list(on(world, host)) == [runs.id]
        assert inside("cat /proc/sys/kernel/random/boot_id") != guest_boot
        until(lambda: inside(ping) == "reached", "the neighbour is reached", seconds=60)

    world.cloud.wait_for_hosts(guests.ensure_token(world.cloud))
    until(lambda: boot_of(world, host) != host_boot, "control knows of the reboot", seconds=30)
    assert (world.status(runs), world.status(sleeps)) == ("running", "off")
    time.sleep(7)  # two sweeps
    assert generations(world) == wanted
    assert len(world.api.servers.get_actions(runs)) == actions
    assert list(on(world, host)) == [runs.id]
    world.api.servers.power_on(sleeps).wait_until_finished()
    world.wait_for_status(sleeps, "running")


def test_an_agent_that_starts_again_in_the_same_boot_starts_nothing_and_ends_nothing(
    world: World, network: BoundNetwork
) -> None:
    runs, sleeps, _ = two_of_one_host_and_a_neighbour(world, network)
    host = world.host_of(runs)
    world.api.servers.power_off(sleeps).wait_until_finished()
    guest_boot, host_boot = world.boot_id(runs), boot_of(world, host)
    before = processes_of(host) - own_programs(world, host)
    for program in (host.agent, host.monitor):
        psutil.Process(world.cloud.supervisor.pid(program)).kill()
    time.sleep(7)  # a look of the monitor, and two sweeps of control
    assert boot_of(world, host) == host_boot
    assert processes_of(host) - own_programs(world, host) == before
    assert world.boot_id(runs) == guest_boot
    assert (world.status(runs), world.status(sleeps)) == ("running", "off")


def processes_of(host: LabHost) -> set[psutil.Process]:
    return set(processes.in_namespace(host.namespace))


def own_programs(world: World, host: LabHost) -> set[psutil.Process]:
    """Agent and monitor, whichever run now."""
    supervisor = world.cloud.supervisor
    for program in (host.agent, host.monitor):
        until(lambda p=program: supervisor.states()[p] == "RUNNING", program, seconds=30)
    return {psutil.Process(supervisor.pid(program)) for program in (host.agent, host.monitor)}


def test_a_reboot_in_the_middle_of_a_create_delays_it(world: World) -> None:
    server = world.create("half-made", wait=False)
    (host,) = until_on_a_host(world, server)
    restarted(world, host)
    world.wait_for_status(server, "running", seconds=90)
    assert list(on(world, host)) == [server.id]
    assert world.wait_for_ssh(server).startswith("half-made ")
    assert failed_actions(world, server) == []


def test_a_reboot_in_the_middle_of_a_start_delays_it(world: World) -> None:
    server = world.create("started-twice")
    host = world.host_of(server)
    world.api.servers.power_off(server).wait_until_finished()
    action = world.api.servers.power_on(server)
    restarted(world, host)
    action.wait_until_finished(max_retries=400)
    world.wait_for_status(server, "running", seconds=60)
    assert world.wait_for_ssh(server).startswith("started-twice ")
    assert list(on(world, host)) == [server.id]


def test_a_reboot_in_the_middle_of_a_delete_leaves_nothing(world: World) -> None:
    server = world.create("short-lived")
    host = world.host_of(server)
    world.api.servers.delete(server)
    restarted(world, host)
    world.wait_for_status(server, "gone", seconds=90)
    until(lambda: not world.leftovers(), "hosts are clean", seconds=60)


def until_on_a_host(world: World, server: BoundServer) -> list[LabHost]:
    """The host that began to make the server, as soon as it did."""
    hosts: list[LabHost] = []

    def begun() -> bool:
        hosts[:] = [
            host for host in world.cloud.hosts if (host.state / "vms" / str(server.id)).exists()
        ]
        return bool(hosts)

    until(begun, f"a host makes {server.name}", seconds=60)
    return hosts


def failed_actions(world: World, server: BoundServer) -> list[str]:
    return [a.command for a in world.api.servers.get_actions(server) if a.status == "error"]
