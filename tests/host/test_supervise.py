"""What deploy asks of the programs of a cloud: that all end, and who answers on a port."""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import state, supervise
from deploy.ports import Ports, choose_port
from deploy.supervise import Program, Supervisor
from tests.host.world import until

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


def flaky(place: Path, tries: int) -> Program:
    """Ends at once until it was tried so many times before; then it is `up`."""
    file = place / "flaky.py"
    file.write_text(
        "import pathlib, sys, time\n"
        f"tried = pathlib.Path({str(place / 'tried')!r})\n"
        "with tried.open('a') as file: file.write('.')\n"
        f"if len(tried.read_text()) <= {tries}: sys.exit('the port is taken')\n"
        f"pathlib.Path({str(place / 'up')!r}).touch()\n"
        "time.sleep(600)\n"
    )
    return Program("flaky", [sys.executable, file], place)


def test_a_program_that_waits_for_its_next_try_is_neither_started_nor_given_up(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.apply([flaky(tmp_path, tries=2)])
    supervisor.start("flaky")
    until(lambda: supervisor.states()["flaky"] == "BACKOFF", "it ended", seconds=10)
    supervisor.start("flaky")
    supervisor.wait("flaky", (tmp_path / "up").exists, seconds=30)
    supervisor.stop("flaky")


def test_a_program_that_never_starts_is_told_with_what_it_said(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "_RETRY_SECONDS", 2)
    supervisor.apply([flaky(tmp_path, tries=1000)])
    supervisor.start("flaky")
    began = time.monotonic()
    with pytest.raises(supervise.ServiceFailed, match=r"is BACKOFF.*\n.*the port is taken"):
        supervisor.wait("flaky", lambda: False, seconds=60)
    assert time.monotonic() - began < 10
    supervisor.stop("flaky")
    assert supervisor.states() == {"flaky": "STOPPED"}


def test_what_supervisord_refuses_is_an_error_that_says_why(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.apply([])
    with pytest.raises(supervise.Refused, match=r"signalProcess other HUP \(BAD_NAME: other\)"):
        supervisor.signal("other", "HUP")
