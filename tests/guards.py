"""Holds unit tests to pure code, by the interpreter's own audit events.

An audit hook cannot be taken back or patched away by the code under test; it is installed once
and acts only while `pure` is open.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_FORBIDDEN = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.sendto",
        "subprocess.Popen",
    }
)
_open: list[list[str]] = []
_installed = False


@contextmanager
def pure() -> Iterator[list[str]]:
    """Refuse processes and connections; yields what was tried."""
    _install()
    violations: list[str] = []
    _open.append(violations)
    try:
        yield violations
    finally:
        _open.pop()


def _install() -> None:
    global _installed
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _open and event in _FORBIDDEN:
        _open[-1].append(f"{event}{arguments[:2]}")
        raise PermissionError(f"unit tests are pure: {event}{arguments[:2]}")
