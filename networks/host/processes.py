"""Programs that outlive whoever started them, found again by a word of their command line.

The word is a path or a name that is this host's alone. Signals go through a pidfd, so a pid that
was used again is never mistaken for ours.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from cloud import files

PROC = Path("/proc")
END_SECONDS = 3.0
_PID_BYTES = 16

Found = TypeVar("Found")


def find(program: str, word: str, noted: Path | None = None) -> int | None:
    """The pid of the program with this word. Looks at every process if `noted` leads nowhere."""
    return search(lambda pid: pid if is_ours(pid, program, word) else None, noted)


def search(known: Callable[[int], Found | None], noted: Path | None) -> Found | None:
    """What `known` makes of the first process that it knows, that of the pid file before others."""
    if noted is not None and (found := named(known, noted)):
        return found
    return next(filter(None, map(known, _pids())), None)


def named(known: Callable[[int], Found | None], noted: Path) -> Found | None:
    """What `known` makes of the process that the pid file leads to."""
    try:
        pid = int(files.read_foreign(noted, _PID_BYTES))
    except (OSError, ValueError):
        return None
    return known(pid)


def running(program: str) -> dict[int, tuple[str, ...]]:
    """By pid, the arguments of all processes of the program that `is_ours` could find."""
    found = {}
    for pid in _pids():
        words = command_line(pid).decode(errors="replace").split("\0")
        if Path(words[0]).name == program:
            found[pid] = tuple(words[1:-1])
    return found


def is_ours(pid: int, program: str, word: str) -> bool:
    """A launcher that has yet to become the program is not."""
    words = command_line(pid).split(b"\0")
    return Path(words[0].decode(errors="replace")).name == program and word.encode() in words[1:]


def command_line(pid: int) -> bytes:
    """The words, each ended by a zero byte; none of a process that has ended, or is a zombie.

    Nor of another user's, unless we are root, whose programs become other users: everybody may give
    a program such a name and such words.
    """
    with suppress(OSError):
        proc = PROC / str(pid)
        if os.geteuid() in (0, proc.stat().st_uid):
            return (proc / "cmdline").read_bytes()
    return b""


def started(pid: int) -> int:
    """When, in clock ticks since the machine's start. Raises OSError."""
    return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])


def signalled(pid: int, program: str, word: str, number: signal.Signals, *, wait: bool) -> None:
    """Send a signal, and wait a while for the end if that is what it is for."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if is_ours(pid, program, word):
                signal.pidfd_send_signal(handle, number)
                select.select([handle] if wait else [], [], [], END_SECONDS if wait else 0)
        finally:
            os.close(handle)


def end(pid: int, program: str, word: str) -> None:
    """Politely, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        signalled(pid, program, word, number, wait=True)


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
