"""The stunnels of a host's cables: started, told of changes, ended, and found again.

They outlive whoever started them and never run as root. Each is known by its file, the plugs at the
ends of cables by their arguments, so nothing is remembered but the files. Callers see to it that
only one of them is at work at a time.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cloud import shell
from cloud.errors import CumuletError
from networks.host import processes

PROGRAM, PLUG = "stunnel", "vde_plug"
ACCEPTING = "accepting"
_SUFFIX = ".conf"
_SECONDS = 10.0
_POLL_SECONDS = 0.01
# What stunnel writes when it has taken a file as its own.
_TAKEN = b"Configuration successful"
_REFUSED = b"Configuration failed"


class StunnelMissing(CumuletError):
    """The program that cables run through is not installed."""

    code: ClassVar[str] = "stunnel_missing"


class CablesFailed(CumuletError):
    """Cables to other hosts did not come up."""

    code: ClassVar[str] = "cables_failed"
    retryable: ClassVar[bool] = True


@dataclass(frozen=True)
class Service:
    """`place`: a directory for stunnel's files, which the user that it runs as can pass through.

    become: the words before a command that becomes that user; write: makes a file that it can
    read; log: of each stunnel by its name.
    """

    place: Path
    become: Sequence[str]
    write: Callable[[Path, str], None]
    log: Callable[[str], Path]

    def file(self, name: str) -> Path:
        return self.place / f"{name}{_SUFFIX}"


def require() -> None:
    """Raises StunnelMissing."""
    if shutil.which(PROGRAM) is None:
        raise StunnelMissing(
            f"there is no {PROGRAM} on this host, so its private networks reach no other host:"
            " `apt install stunnel4`"
        )


def ensure(service: Service, texts: Mapping[str, str], plugs: Collection[Sequence[str]]) -> bool:
    """Run just these stunnels, by name, and let only these plugs be; whether anything changed.

    What must go goes first, so that no host is in two layouts at any moment. Raises CablesFailed,
    CommandError or OSError.
    """
    running = _running(service)
    changed = _end_others(service, texts, running)
    accepting = texts.get(ACCEPTING)
    if accepting is not None:
        changed |= _accept(service, accepting, running.get(ACCEPTING))
    changed |= _pull(service, plugs)
    for name in sorted(texts.keys() - {ACCEPTING}):
        if name in running and _read(service.file(name)) == texts[name]:
            continue
        _end(service, name, running.get(name))
        service.write(service.file(name), texts[name])
        _start(service, name)
        changed = True
    return changed


def is_complete(service: Service, names: Collection[str]) -> bool:
    """Whether just these stunnels run."""
    return _running(service).keys() == set(names)


def _end_others(service: Service, texts: Mapping[str, str], running: Mapping[str, int]) -> bool:
    known = {path.name.removesuffix(_SUFFIX) for path in service.place.glob(f"*{_SUFFIX}")}
    others = (known | running.keys()) - texts.keys()
    for name in others:
        _end(service, name, running.get(name))
        service.file(name).unlink(missing_ok=True)
        service.log(name).unlink(missing_ok=True)
    return bool(others)


def _accept(service: Service, text: str, pid: int | None) -> bool:
    """Have calls taken as the text says; those that go on are not interrupted."""
    file = service.file(ACCEPTING)
    before = _read(file)
    if pid is not None and before == text:
        return False
    service.write(file, text)
    if pid is None:
        _start(service, ACCEPTING)
        return True
    said = _size(service.log(ACCEPTING))
    processes.signalled(pid, PROGRAM, str(file), signal.SIGHUP, wait=False)
    try:
        _wait(service, ACCEPTING, said)
    except CablesFailed:
        # What it does not know of yet must not count as known.
        service.write(file, before or "")
        raise
    return True


def _pull(service: Service, plugs: Collection[Sequence[str]]) -> bool:
    """End the plugs of cables that must not be, whoever is at their other end."""
    wanted = {tuple(words) for words in plugs}
    ours = f"vde://{service.place.parent}/"
    pulled = False
    for pid, words in processes.running(PLUG).items():
        if words[:1] == ("-D",) and words[-1].startswith(ours) and words not in wanted:
            processes.signalled(pid, PLUG, words[-1], signal.SIGKILL, wait=True)
            pulled = True
    return pulled


def _start(service: Service, name: str) -> None:
    log = service.log(name)
    said = _size(log)
    shell.detach([*service.become, PROGRAM, str(service.file(name))], log=log)
    _wait(service, name, said)


def _wait(service: Service, name: str, since: int) -> None:
    """Until stunnel has said whether it takes its file."""
    log = service.log(name)
    deadline = time.monotonic() + _SECONDS
    while _TAKEN not in (said := _said(log, since)):
        if _REFUSED in said or time.monotonic() > deadline:
            raise CablesFailed(
                f"{PROGRAM} took no cables: see {log}; if another program has its port, set"
                " CUMULET_HOST_CABLE_PORT to another one"
            )
        time.sleep(_POLL_SECONDS)


def _end(service: Service, name: str, pid: int | None) -> None:
    if pid is not None:
        processes.end(pid, PROGRAM, str(service.file(name)))


def _running(service: Service) -> dict[str, int]:
    """By name, the pids of our stunnels."""
    found = {}
    for pid, words in processes.running(PROGRAM).items():
        file = Path(words[0]) if words else Path()
        if file.parent == service.place and file.suffix == _SUFFIX:
            found[file.name.removesuffix(_SUFFIX)] = pid
    return found


def _read(file: Path) -> str | None:
    return file.read_text() if file.exists() else None


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _said(log: Path, since: int) -> bytes:
    with log.open("rb") as file:
        file.seek(since if since <= os.fstat(file.fileno()).st_size else 0)
        return file.read()
