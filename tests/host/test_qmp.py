"""QMP against a real socket that speaks it badly: nobody waits longer than the limit."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vms.host import qmp

GREETING = {"QMP": {"version": {"qemu": {"major": 7}, "package": ""}, "capabilities": []}}
RUNNING = {"return": {"status": "running"}}
ERROR = {"error": {"class": "GenericError", "desc": "no such thing"}}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(qmp, "EXECUTE_SECONDS", 0.3)


@pytest.fixture
def socket() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qmp-") as directory:
        yield Path(directory) / "qmp"


@contextmanager
def serving(socket: Path, *lines: object) -> Iterator[None]:
    """A server that says its first line, then one more to each command, then nothing."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command: dict[str, object] = {}
        try:
            for said in lines:
                if said == "hang up":
                    return
                label = {"id": command["id"]} if "id" in command else {}
                line = json.dumps({**said, **label}) if isinstance(said, dict) else said
                writer.write(f"{line}\n".encode())
                # Commands are not lines, but each comes in one piece.
                command = json.loads(await reader.read(65536) or "{}")
            await reader.read()
        finally:
            writer.close()

    async def serve() -> None:
        async with await asyncio.start_unix_server(talk, socket):
            listening.set()
            await asyncio.to_thread(stopped.wait)

    listening, stopped = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    # The file is there a moment before anybody listens.
    assert listening.wait(10)
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def test_an_answer_is_returned(socket: Path) -> None:
    with serving(socket, GREETING, {"return": {}}, RUNNING):
        assert qmp.run_state(socket) == "running"


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="no greeting"),
        pytest.param([GREETING], id="no answer to the handshake"),
        pytest.param([GREETING, {"return": {}}], id="no answer to the command"),
        pytest.param(["hang up"], id="hangs up at once"),
        pytest.param([GREETING, {"return": {}}, "hang up"], id="hangs up during the command"),
        pytest.param(["HTTP/1.1 200 OK"], id="another protocol"),
    ],
)
def test_whoever_does_not_answer_properly_is_silent_and_costs_little_time(
    socket: Path, lines: list[object]
) -> None:
    began = time.monotonic()
    with serving(socket, *lines):
        with pytest.raises(qmp.QmpSilent):
            qmp.run_state(socket)
        assert time.monotonic() - began < 1.5


def test_an_error_is_a_refusal_that_says_what_qemu_said(socket: Path) -> None:
    with (
        serving(socket, GREETING, {"return": {}}, ERROR),
        pytest.raises(qmp.QmpRefused, match="no such thing"),
    ):
        qmp.run_state(socket)


def test_without_a_socket_or_a_listener_nobody_is_there(socket: Path) -> None:
    with pytest.raises(qmp.QmpAbsent):
        qmp.run_state(socket)
    with serving(socket):
        pass
    socket.touch()
    with pytest.raises(qmp.QmpAbsent):
        qmp.run_state(socket)
