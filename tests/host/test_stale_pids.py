"""Pid files outlive a reboot where the run directory is on a disk, and numbers are used again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from cloud import shell
from deploy import processes
from networks.host import dhcp, namespaces, outlets, switches
from networks.host.outside_orders import Place
from networks.host.switches import Switch
from vms.host import qemu
from vms.host.paths import HostPaths

UUID = "11111111-2222-3333-4444-555555555555"


@dataclass(frozen=True)
class Kind:
    """A program that is found by its pid file: `find` and `end` take the directory `place`."""

    program: str
    pid: Callable[[Path], Path]
    find: Callable[[Path], Any]
    end: Callable[[Path], None]


def vm(place: Path) -> Any:
    return HostPaths(place / "state", place / "run").vm(7)


KINDS = [
    Kind(
        "qemu-system-x86_64",
        lambda place: vm(place).pid,
        lambda place: qemu.find(UUID, vm(place)),
        lambda place: qemu.stop(UUID, vm(place)),
    ),
    Kind("dnsmasq", lambda place: place / "pid", dhcp.find, dhcp.stop),
    Kind("tail", lambda place: place / "keeper", namespaces.find, namespaces.remove),
    Kind(
        "vde_switch",
        lambda place: Switch(place).pid,
        lambda place: switches.find(Switch(place)),
        lambda place: switches.remove(Switch(place)),
    ),
    Kind("python", lambda place: Place(place).pid, outlets.find, outlets.remove),
]


@pytest.fixture(params=["sleep", "its own name", "its own name and another's place"])
def foreign(request: pytest.FixtureRequest, kind: Kind, tmp_path: Path) -> Iterator[psutil.Process]:
    """A process of somebody else, which has the number now."""
    name = "sleep" if request.param == "sleep" else kind.program
    words = "600"
    if "another" in request.param:
        words = f"600 -uuid {UUID.replace('1', '2')} {tmp_path}/elsewhere --conf-file=/elsewhere"
        sleeper = shutil.which("sleep")
        assert sleeper
        # A program that takes any word: a shell that waits for its child.
        argv = ["bash", "-c", f'exec -a {name} bash -c "{sleeper} 600; :" {words}']
    else:
        argv = ["bash", "-c", f"exec -a {name} sleep {words}"]
    started = shell.spawn(argv, log=tmp_path / "foreign.log")
    process = psutil.Process(started.pid)
    try:
        yield process
    finally:
        processes.end([*process.children(), process], patience=2)
        started.wait(5)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.program)
def test_a_foreign_process_is_neither_taken_for_ours_nor_ended(
    kind: Kind, foreign: psutil.Process, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    kind.pid(place).parent.mkdir(parents=True)
    kind.pid(place).write_text(f"{foreign.pid}\n")
    assert kind.find(place) is None
    kind.end(place)
    assert processes.alive(foreign)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.program)
@pytest.mark.parametrize("content", ["", "1", "-1", "0", "999999999999", "x", "self"])
def test_a_pid_file_with_anything_else_leads_to_nobody(
    kind: Kind, content: str, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    kind.pid(place).parent.mkdir(parents=True)
    kind.pid(place).write_text(content)
    assert kind.find(place) is None
    kind.end(place)
