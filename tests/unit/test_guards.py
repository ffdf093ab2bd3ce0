"""The guard of the unit tests sees what it forbids, even if the code swallows the refusal."""

from __future__ import annotations

import contextlib
import socket

from cloud import shell
from tests import guards


def test_a_process_is_noticed() -> None:
    with guards.pure() as violations, contextlib.suppress(Exception):
        shell.run(["true"], timeout=1)
    assert any("subprocess.Popen" in violation for violation in violations)


def test_a_connection_is_noticed() -> None:
    with guards.pure() as violations, socket.socket() as stream, contextlib.suppress(Exception):
        stream.connect(("127.0.0.1", 9))
    assert any("socket.connect" in violation for violation in violations)
