"""Programs that outlive whoever started them, found again by a word of their command line.

The word is a path or a name that is this host's alone. Signals go through a pidfd, so a pid that
was used again is never mistaken for ours.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
END_SECONDS = 3.0
_PID_BYTES = 16


def find(program: str, word: str, noted: Path | None = None) -> int | None:
    """The pid of the program with this word. Looks at every process if `noted` leads nowhere."""
    if noted is not None:
        with suppress(OSError, ValueError):
            if is_ours(pid := _noted(noted), program, word):
                return pid
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    return next((pid for pid in pids if is_ours(pid, program, word)), None)


def running(program: str) -> dict[int, tuple[str, ...]]:
    """By pid, the arguments of all processes of the program that `is_ours` could find."""
    found = {}
    for entry in PROC.iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and os.geteuid() in (0, entry.stat().st_uid):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if Path(words[0]).name == program:
                    found[int(entry.name)] = tuple(words[1:-1])
    return found


def is_ours(pid: int, program: str, word: str) -> bool:
    """A launcher that has yet to become the program, or a zombie, is not.

    Nor is another user's program of the same name and word, unless we are root, whose programs
    become other users.
    """
    with suppress(OSError):
        proc = PROC / str(pid)
        words = (proc / "cmdline").read_bytes().split(b"\0")
        named = Path(words[0].decode(errors="replace")).name == program
        if os.geteuid() not in (0, proc.stat().st_uid):
            return False
        return named and word.encode() in words[1:]
    return False


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


def _noted(path: Path) -> int:
    """Follows no link and waits for nobody: the program's user may own the file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return int(os.read(descriptor, _PID_BYTES))
    finally:
        os.close(descriptor)
