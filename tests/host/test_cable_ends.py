"""A cable at its ends: joined where no other user gets at it, and gone as a whole."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from networks.host import processes
from networks.host.cable_service import ACCEPTING
from tests.host.cabled_cloud import CabledNetwork, playing, stunnel
from tests.host.private_cloud import crosses
from tests.host.wire import Wire
from tests.host.world import World, until

pytestmark = [pytest.mark.private, pytest.mark.rootless]

CABLE = "h1.n5-l1"
LOOPBACK = re.compile(r"^.*\b127\.[0-9.]+:.*\b(?:stunnel|socat|vde_plug)\b.*$", re.MULTILINE)


@pytest.fixture
def spoke(cabled_hosts: list[World]) -> World:
    return cabled_hosts[0]


@pytest.fixture
def hub(cabled_hosts: list[World]) -> World:
    return cabled_hosts[2]


@pytest.fixture
def network(cabled_hosts: list[World], spoke: World, hub: World) -> CabledNetwork:
    """A member on the host that calls, and one behind its gateway."""
    made = CabledNetwork(5, hub=hub)
    made.placed = [(spoke, made.nic("10.0.1.11")), (cabled_hosts[3], made.nic("10.0.1.14"))]
    assert all(report.converged for report in made.tell())
    return made


@pytest.fixture
def guests(network: CabledNetwork) -> Iterator[list[Wire]]:
    with playing(network) as wires:
        until(lambda: crosses(*wires, seconds=0.2), "the cable is there")
        yield wires


def calling(world: World) -> int | None:
    """The program that calls the hub, if it runs."""
    return processes.find("stunnel", str(world.host.paths.cables / "calling-5.conf"))


def plugs(world: World) -> set[int]:
    wanted = ("-D", CABLE, f"vde://{world.host.paths.switch(5)}")
    return {pid for pid, words in processes.running("vde_plug").items() if words == wanted}


@contextmanager
def watching_the_loopback(*worlds: World) -> Iterator[list[str]]:
    """What programs of cables have there at any moment."""
    seen: list[str] = []
    enough = threading.Event()

    def look() -> None:
        while not enough.is_set():
            for world in worlds:
                seen.extend(LOOPBACK.findall(world.seen("ss", "-Hatnp")))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        enough.set()
        looking.join()


def test_no_other_user_could_take_the_place_of_a_plug(
    spoke: World, hub: World, guests: list[Wire]
) -> None:
    """Programs are joined by sockets without a name, or in a directory that is closed to others."""
    with spoke.watched(), watching_the_loopback(spoke, hub) as seen:
        for _ in range(3):
            killed = stunnel(spoke, "calling-5")
            os.kill(killed, signal.SIGKILL)
            # A frame that was under way may still come, so that crossing alone proves nothing.
            until(lambda k=killed: calling(spoke) not in (None, k), "it calls anew", seconds=10)
            assert crosses(*guests, seconds=10)
    assert not seen
    sockets = hub.host.paths.cable_sockets
    (socket,) = sockets.iterdir()
    assert [path.stat().st_mode & 0o777 for path in (sockets, socket)] == [0o700, 0o600]
    owner = Path(f"/proc/{stunnel(hub, ACCEPTING)}").stat().st_uid
    assert {path.stat().st_uid for path in (sockets, socket)} == {owner}


@pytest.mark.parametrize("part", ["stunnel", "calling plug", "accepting plug"])
def test_when_a_part_of_a_cable_dies_nothing_of_it_stays_and_it_is_laid_anew(
    spoke: World, hub: World, guests: list[Wire], part: str
) -> None:
    caller, (near,), (far,) = stunnel(spoke, "calling-5"), plugs(spoke), plugs(hub)
    os.kill({"stunnel": caller, "calling plug": near, "accepting plug": far}[part], signal.SIGKILL)
    until(lambda: calling(spoke) is None, "stunnel ends", seconds=5)
    until(lambda: not plugs(spoke) | plugs(hub), "plugs end", seconds=5)
    with spoke.watched():
        assert crosses(*guests, seconds=5)


def test_a_cable_that_is_laid_anew_takes_the_place_of_one_that_was_cut_off(
    spoke: World, hub: World, guests: list[Wire]
) -> None:
    connections = spoke.seen("ss", "-Htn", "dport", "=", ":51821")
    (port,) = re.findall(r":([0-9]+)\s+192\.0\.2\.13:51821", connections)
    (cut,) = plugs(hub)
    hub.seen("nft", "add", "table", "ip", "cut")
    hub.seen("nft", "add", "chain", "ip", "cut", "in", "{ type filter hook input priority 0; }")
    hub.seen("nft", "add", "rule", "ip", "cut", "in", "tcp", "sport", port, "drop")
    try:
        os.kill(stunnel(spoke, "calling-5"), signal.SIGKILL)
        with spoke.watched():
            assert crosses(*guests, seconds=10)
        assert plugs(hub) > {cut}
        with hub.inside(), hub.watched():
            until(lambda: len(plugs(hub)) == 1, "the older one ends", seconds=5)
        assert plugs(hub) != {cut}
        assert crosses(*guests)
    finally:
        hub.seen("nft", "delete", "table", "ip", "cut")
