"""What deploy asks of the programs of a cloud: that all end, and who answers on a port."""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import state
from deploy.ports import Ports, choose_port
from deploy.supervise import Program, Supervisor

NAMES = ("one", "two", "three")
FAREWELL = 1.5
# Says that it listens, and takes its time after the signal.
PROGRAM = (
    "import signal, sys, time\n"
    f"signal.signal(signal.SIGTERM, lambda *_: (time.sleep({FAREWELL}), sys.exit(0)))\n"
    "print('ready', flush=True)\n"
    "while True: time.sleep(60)\n"
)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    none = Ports(*[0] * len(Ports.__struct_fields__))
    instance = state.Instance(state.instance_id(tmp_path), tmp_path, none, state.Passwords())
    supervisor = Supervisor(instance)
    supervisor.ensure(sys.executable)
    yield supervisor
    supervisor.shutdown(seconds=30)
    shutil.rmtree(instance.run)


def run(supervisor: Supervisor, log: Path, version: str) -> float:
    """Have that version of the programs run; answers how many seconds it took to apply it."""
    file = log.parent / "slow_to_end.py"
    file.write_text(PROGRAM)
    began = time.monotonic()
    supervisor.apply(
        Program(name, [sys.executable, file], log.parent, configuration=version) for name in NAMES
    )
    applied = time.monotonic() - began
    supervisor.start(*NAMES)
    for name in NAMES:
        said = log / f"{name}.log"
        supervisor.wait(name, lambda said=said: "ready" in said.read_text(), seconds=30)
        said.write_text("")
    return applied


def test_programs_end_at_the_same_time_and_stop_waits_for_all(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    run(supervisor, tmp_path / "log", "1")
    began = time.monotonic()
    supervisor.stop(*NAMES)
    assert FAREWELL <= time.monotonic() - began < len(NAMES) * FAREWELL
    assert set(supervisor.states().values()) == {"STOPPED"}
    supervisor.stop(*NAMES)


def test_programs_that_changed_end_at_the_same_time(supervisor: Supervisor, tmp_path: Path) -> None:
    run(supervisor, tmp_path / "log", "1")
    before = {supervisor.pid(name) for name in NAMES}
    assert FAREWELL <= run(supervisor, tmp_path / "log", "2") < len(NAMES) * FAREWELL
    assert not before & {supervisor.pid(name) for name in NAMES}


def test_a_port_on_which_a_stranger_answers_is_not_the_programs(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1"]
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        free = choose_port()
        supervisor.apply([Program("web", [*server, str(free)], tmp_path)])
        supervisor.start("web")
        supervisor.wait("web", lambda: supervisor.listens("web", free), seconds=30)
        assert not supervisor.listens("web", taken)
        supervisor.stop("web")
        assert not supervisor.listens("web", free)
