"""An agent of another wire version joins a real control: nothing is misread, nothing lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hcloud.actions.domain import ActionFailedException

from cloud.wire import WIRE_VERSION
from deploy.hosts import LabHost
from tests.e2e.world import World, until

pytestmark = pytest.mark.faults

CODE = "wire_version_unsupported"


@pytest.fixture
def foreign(world: World, tmp_path: Path) -> Iterator[Path]:
    """The release that runs, but of the next wire version."""
    release = tmp_path / "release"
    shutil.copytree(world.cloud.release, release, ignore=shutil.ignore_patterns("__pycache__"))
    wire = release / "cloud/wire.py"
    text = wire.read_text()
    for now, then in (
        (f"WIRE_VERSION: Final = {WIRE_VERSION}\n", f"WIRE_VERSION: Final = {WIRE_VERSION + 1}\n"),
        (f"Version = Literal[{WIRE_VERSION}]", f"Version = Literal[{WIRE_VERSION + 1}]"),
    ):
        assert text.count(now) == 1
        text = text.replace(now, then)
    wire.write_text(text)
    yield release
    for host in world.cloud.hosts:
        run_from(world, host, world.cloud.release)


def run_from(world: World, host: LabHost, release: Path) -> None:
    """Agent and monitor of the host are of that release."""
    world.cloud.supervisor.apply(host.programs(release))
    world.cloud.supervisor.start(host.agent, host.monitor)


def problem(world: World, host: LabHost) -> str:
    return "".join(one["message"] for one in world.row_of(host)["problems"] if one["code"] == CODE)


def test_an_agent_of_another_wire_version_is_named_and_its_guests_are_left_alone(
    world: World, foreign: Path
) -> None:
    server = world.create("steady")
    boot, host = world.boot_id(server), world.host_of(server)
    (guest,) = world.guest_processes()

    run_from(world, host, foreign)
    until(lambda: problem(world, host), "its host's row says why", seconds=60)
    assert f"{host.name} (agent " in problem(world, host)
    assert "upgrade control" in problem(world, host)
    with pytest.raises(ActionFailedException) as failed:
        world.api.servers.power_off(server).wait_until_finished(max_retries=600)
    assert failed.value.action.error["code"] == CODE
    assert "upgrade control" in failed.value.action.error["message"]
    until(lambda: world.row_of(host)["status"] == "silent", "it does not count as up", seconds=60)
    world.wait_for_status(server, "unknown", seconds=30)
    assert guest.is_running()
    assert world.boot_id(server) == boot
    others = world.create_all(*(f"elsewhere-{number}" for number in range(3)))
    assert host.name not in {world.host_of(other).name for other in others}

    run_from(world, host, world.cloud.release)
    world.wait_for_status(server, "off", seconds=60)
    until(lambda: not world.row_of(host)["problems"], "no problem is left", seconds=30)
    world.api.servers.power_on(server).wait_until_finished()
    assert world.boot_id(server) != boot
