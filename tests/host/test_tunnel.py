"""The program of a tunnel while it starts."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import pytest

from networks.host import wireguard
from networks.host.wireguard import Place

pytestmark = pytest.mark.private

SOCKETS = Path("/run/wireguard")


def test_a_program_that_does_not_listen_yet_is_waited_for_and_keeps_its_socket(
    tmp_path: Path,
) -> None:
    """`wg` would delete the socket, and the program would end a moment after it started."""
    place = Place(f"cw{secrets.token_hex(6)}", "h1", tmp_path / "key", tmp_path / "log")
    path = SOCKETS / f"{place.interface}.sock"
    assert not wireguard.answers(place)
    SOCKETS.mkdir(mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as program:
        program.bind(str(path))
        try:
            assert not wireguard.answers(place)
            assert path.exists()
            program.listen()
            assert wireguard.answers(place)
        finally:
            path.unlink()
