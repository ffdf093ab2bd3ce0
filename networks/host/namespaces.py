"""Network namespaces that last as long as a process of ours sleeps in them.

No mount names them, because the agent's service and the monitor's see different mounts. The
keeper is found again by the file that it follows; it ends with the network, or with whoever ends
all processes of an installation, and everything inside ends with it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from pyroute2.netns import setns

from cloud import shell
from cloud.errors import CumuletError
from networks.host import processes

_KEEPER = "tail"
_SECONDS = 3.0
_POLL_SECONDS = 0.005


class NoNamespace(CumuletError):
    """The kernel made no network namespace."""

    code: ClassVar[str] = "namespace_failed"
    retryable: ClassVar[bool] = True


def find(place: Path) -> int | None:
    """The pid of the keeper, None if there is no namespace. It has left the host's by then."""
    pid = processes.find(_KEEPER, str(_file(place)), _pid(place))
    if pid is None:
        return None
    with suppress(OSError):  # it ended meanwhile
        return pid if _namespace(str(pid)) != _namespace("thread-self") else None
    return None


def ensure(place: Path) -> tuple[int, bool]:
    """The keeper's pid, and whether the namespace is new. Raises NoNamespace or CommandError."""
    pid = find(place)
    if pid is not None:
        return pid, False
    _file(place).touch()
    argv = ["unshare", "--net", _KEEPER, "-s", "3600", "-f", str(_file(place))]
    shell.detach(argv, log=place / "log")
    deadline = time.monotonic() + _SECONDS
    while (pid := find(place)) is None:
        if time.monotonic() > deadline:
            raise NoNamespace(f"no network namespace was made: see {place / 'log'}")
        time.sleep(_POLL_SECONDS)
    _pid(place).write_text(f"{pid}\n")
    return pid, True


def remove(place: Path) -> None:
    pid = find(place)
    if pid is not None:
        processes.end(pid, _KEEPER, str(_file(place)))


@contextmanager
def inside(pid: int) -> Iterator[None]:
    """This thread, and the programs it starts, work in the keeper's namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(f"/proc/{pid}/ns/net")
        try:
            yield
        finally:
            setns(home)
    finally:
        os.close(home)


def _namespace(process: str) -> Path:
    return Path(f"/proc/{process}/ns/net").readlink()


def _file(place: Path) -> Path:
    return place / "namespace"


def _pid(place: Path) -> Path:
    return place / "keeper"
