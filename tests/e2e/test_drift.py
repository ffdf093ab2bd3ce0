"""What hosts have too few or too many of: told, healed where it is safe, and left alone elsewhere.

The monitor of a host heals most of it within seconds, so here it is not running: what is seen
and done is the part of `manage.py drift` and of the agent.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hcloud.networks import BoundNetwork, NetworkSubnet
from hcloud.servers import BoundServer

from cloud import shell
from deploy import accounts, control
from deploy.hosts import LabHost
from networks.host import plan
from tests.e2e.world import World, until
from vms.host.paths import tap_name

pytestmark = pytest.mark.faults

STRAY_ROUTE = "198.18.9.9/32"
STRAY_DIRECTORIES = ("not-mine", "999")


@pytest.fixture
def network(world: World) -> Iterator[BoundNetwork]:
    zone = world.api.locations.get_by_name("lab").network_zone  # type: ignore[union-attr]
    subnet = NetworkSubnet(type="cloud", network_zone=zone, ip_range="10.0.1.0/24")
    made = world.api.networks.create(name="drift", ip_range="10.0.0.0/16", subnets=[subnet])
    yield made
    world.delete_all()
    world.api.networks.delete(made)
    until(
        lambda: made.id not in {one.id for one in world.api.networks.get_all()}, "gone", seconds=60
    )


@pytest.fixture
def tidy(world: World) -> Iterator[ExitStack]:
    """What is called at the end in any case; then every host is watched again."""
    with ExitStack() as stack:
        yield stack
    world.cloud.supervisor.start(*(host.monitor for host in world.cloud.hosts))


def drift(world: World, *options: str) -> tuple[int, list[dict[str, Any]], str]:
    """The command's exit code, the rows that it lists, and what it says to people."""
    instance, release = world.cloud.instance, world.cloud.release
    result = shell.run(
        [sys.executable, "manage.py", "drift", "--json", *options],
        timeout=180,
        # A host without its monitor beats no more; its agent answers all the same.
        env={
            **control.environment(instance),
            "CUMULET_LOG_LEVEL": "ERROR",
            "CUMULET_HOST_SILENT_SECONDS": "3600",
            "PYTHONPATH": str(release),
        },
        user=accounts.CONTROL,
        cwd=release,
        ok=(0, 1),
    )
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return result.code, rows, result.stderr


def on(world: World, host: LabHost, *command: str) -> str:
    inside = [*world.cloud.lab.enter(host.namespace.name), *command]
    return shell.run(inside, timeout=10).stdout


def told(rows: list[dict[str, Any]]) -> set[str]:
    return {f"{row['direction']} {row['kind']} {row['name']}" for row in rows}


def remove_strays(world: World, host: LabHost) -> None:
    """As an operator would."""
    for name in {"tap-mine", "br-mine"} & world.links(host):
        on(world, host, "ip", "link", "del", name)
    for name in STRAY_DIRECTORIES:
        shutil.rmtree(host.state / "vms" / name, ignore_errors=True)


def kill_guest(world: World, server: BoundServer) -> str:
    """As by kill -9; answers its UUID."""
    (process,) = world.guests_with(f"guest={server.name}")
    words = process.cmdline()
    process.kill()
    until(lambda: not process.is_running(), "QEMU ended", seconds=10)
    return words[words.index("-uuid") + 1]


def test_drift_is_listed_both_ways_healed_where_it_is_safe_and_else_left_alone(
    world: World, network: BoundNetwork, tidy: ExitStack
) -> None:
    web, peer = world.create_all("web", "peer", networks=[network])
    gone = world.create("gone")
    world.api.servers.delete(gone)
    world.wait_for_status(gone, "gone")
    host = world.host_of(web)
    assert world.host_of(peer) is not host
    until(lambda: drift(world)[0] == 0, "no drift to begin with", seconds=60)

    world.cloud.supervisor.stop(host.monitor)
    peer.reload()
    assert peer.private_net
    mac, tunnel = str(peer.private_net[0].mac_address), plan.names(network.id).tunnel
    public, private, left = tap_name(web.id, 0), tap_name(web.id, 1), tap_name(gone.id, 0)
    address = web.public_net.ipv4.ip  # type: ignore[union-attr]
    identity = (host.state / "identity").read_text().strip()
    uuid = kill_guest(world, web)
    on(world, host, "ip", "link", "del", private)
    on(world, host, "nft", "delete", "table", "netdev", f"cumulet_{public}")
    on(world, host, "ip", "route", "del", f"{address}/32")
    on(world, host, "bridge", "fdb", "del", mac, "dev", tunnel, "self")
    on(world, host, "ip", "tuntap", "add", left, "mode", "tap")
    on(world, host, "ip", "link", "set", left, "alias", f"cumulet {identity}")
    tidy.callback(remove_strays, world, host)
    on(world, host, "ip", "tuntap", "add", "tap-mine", "mode", "tap")
    on(world, host, "ip", "link", "add", "br-mine", "type", "bridge")
    for name in STRAY_DIRECTORIES:
        (host.state / "vms" / name).mkdir()
    data = host.state / "vms" / "999" / "disk-0.qcow2"
    data.write_bytes(b"somebody's data")
    to_peer = tap_name(peer.id, 0)
    on(world, world.host_of(peer), "ip", "route", "add", STRAY_ROUTE, "dev", to_peer)

    code, rows, _ = drift(world)
    assert code == 1
    missing = {
        f"missing process {uuid}",
        f"missing tap {private}",
        f"missing rules {public}",
        f"missing address route {address}/32 to {public}",
    }
    extra = {
        "extra tap tap-mine",
        "extra bridge br-mine",
        f"extra address route {STRAY_ROUTE} to {to_peer}",
        f"extra tap {left}",
        "extra directory not-mine",
        "extra directory 999",
        "extra disk 999/disk-0",
    }
    assert missing | extra <= told(rows)
    entries = [row for row in rows if row["kind"] == "fdb" and mac in row["name"]]
    assert [row["direction"] for row in entries] == ["missing"]
    by_host = {row["host"]["name"]: row for row in rows}
    assert by_host.keys() == {host.name, world.host_of(peer).name}
    assert all(row["age"] < 60 for row in rows)

    code, rows, said = drift(world, "--repair", "--yes")
    assert f"send the document of server #{web.id} again" in said
    assert f"send the document of network #{network.id} again" in said
    assert f"server #{gone.id} was deleted" in said
    kept = extra - {f"extra tap {left}"}
    assert (code, told(rows)) == (1, kept)
    assert {row["repair"] for row in rows} == {"quarantine"}
    assert left not in world.links(host)
    assert {"tap-mine", "br-mine", public, private} <= world.links(host)
    assert data.read_bytes() == b"somebody's data"

    tidy.close()
    on(world, world.host_of(peer), "ip", "route", "del", STRAY_ROUTE)
    assert drift(world)[0] == 0
    world.cloud.supervisor.start(host.monitor)
    world.wait_for_status(web, "running", seconds=180)
    world.wait_for_ssh(web)
