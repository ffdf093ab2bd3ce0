"""What a `vde_switch` says on its management socket: which programs are plugged in, and how much
came from them.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from cloud.errors import CumuletError
from networks.host.traffic import Traffic

_SECONDS = 2.0
_CHUNK = 65536
# Thousands of ports; more is not an answer.
_MOST_BYTES = 4 * 2**20
_PROMPT = b"vde$ "
# A line of three digits and a word ends an answer: 1000 is good, everything else an errno.
_END = re.compile(rb"^(1[0-9]{3}) .*$", re.MULTILINE)
_SUCCESS = b"1000"

_PORT = re.compile(r"^Port ([0-9]+) ")
_IN = re.compile(r"^ IN: +pkts +([0-9]+) +bytes +([0-9]+)")
_OUT = re.compile(r"^ OUT: +pkts +([0-9]+) +bytes +([0-9]+)")
_TAP = re.compile(r"^  -- endpoint ID .* module tuntap +: (\S+)\s*$", re.MULTILINE)
_PLUG = re.compile(r"^  -- endpoint ID .* pid=([0-9]+)\s*$")


class SwitchSilent(CumuletError):
    """A switch does not answer on its management socket."""

    code: ClassVar[str] = "switch_silent"
    retryable: ClassVar[bool] = True


def plugs(console: Path) -> dict[int, Traffic]:
    """By the pid of the program that is plugged in. Raises SwitchSilent."""
    return parse_ports(ask(console, "port/allprint"))


def taps(console: Path) -> list[str]:
    """The interfaces that are ports of it. Raises SwitchSilent."""
    return _TAP.findall(ask(console, "port/allprint"))


def parse_ports(text: str) -> dict[int, Traffic]:
    """The answer to port/allprint. A port's numbers come before the ends of its cables; what is
    "in" for the switch was sent by the program that is plugged in.

    Traffic of a program with several plugs is that of the last.
    """
    found: dict[int, Traffic] = {}
    sent, received = (0, 0), (0, 0)
    for line in text.splitlines():
        if _PORT.match(line):
            sent, received = (0, 0), (0, 0)
        elif match := _IN.match(line):
            sent = int(match[1]), int(match[2])
        elif match := _OUT.match(line):
            received = int(match[1]), int(match[2])
        elif match := _PLUG.match(line):
            found[int(match[1])] = Traffic(received[0], sent[0], received[1], sent[1])
    return found


def ask(console: Path, command: str) -> str:
    """One command's answer. Raises SwitchSilent."""
    deadline = time.monotonic() + _SECONDS
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(_SECONDS)
            link.connect(str(console))
            _read_to(link, deadline, _PROMPT)
            link.sendall(f"{command}\n".encode())
            answer = _read_to(link, deadline, _END)
    except OSError as error:
        raise SwitchSilent(f"the switch at {console.parent} does not answer: {error}") from error
    return answer.decode(errors="replace")


def _read_to(link: socket.socket, deadline: float, end: bytes | re.Pattern[bytes]) -> bytes:
    heard = b""
    for chunk in _chunks(link, deadline):
        heard += chunk
        if isinstance(end, bytes):
            if heard.endswith(end):
                return heard
        elif match := end.search(heard):
            if match[1] != _SUCCESS:
                raise ConnectionAbortedError(match[0].decode(errors="replace"))
            return heard
    raise ConnectionAbortedError("it broke off")


def _chunks(link: socket.socket, deadline: float) -> Iterator[bytes]:
    left = _MOST_BYTES
    while left > 0:
        link.settimeout(max(deadline - time.monotonic(), 0.001))
        chunk = link.recv(_CHUNK)
        if not chunk:
            return
        left -= len(chunk)
        yield chunk
