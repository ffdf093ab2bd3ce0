"""The programs of a host's cables: started, told of changes, ended, and found again.

A stunnel that calls ends with its cable, or if nobody answers: whoever looks next starts it again.

They outlive whoever started them and never run as root. Each is known by its file, the plugs at the
ends of cables by their arguments, so nothing is remembered but the files. Callers see to it that
only one of them is at work at a time.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cloud import shell
from cloud.errors import CumuletError
from networks.host import cable_plugs, cables, processes
from networks.host.cable_plugs import POLL_SECONDS, SECONDS, CablesFailed, Plug, Service
from networks.host.cables import SOCAT, STUNNEL

ACCEPTING = "accepting"
_SUFFIX = ".conf"
# What stunnel writes when it has taken a file as its own.
_TAKEN = b"Configuration successful"
_REFUSED = b"Configuration failed"


class StunnelMissing(CumuletError):
    """The program that cables run through is not installed."""

    code: ClassVar[str] = "stunnel_missing"


class SocatMissing(CumuletError):
    """The program that joins stunnel to plugs is not installed."""

    code: ClassVar[str] = "socat_missing"


@dataclass(frozen=True)
class Wanted:
    """What is to run.

    texts: by stunnel, its file; calling: by stunnel that calls, its plug; accepting: by socket, the
    plug of whoever stunnel lets in there.
    """

    texts: Mapping[str, str]
    calling: Mapping[str, Plug]
    accepting: Mapping[Path, Plug]


def require_stunnel() -> None:
    """Raises StunnelMissing."""
    if shutil.which(STUNNEL) is None:
        raise StunnelMissing(_missing(STUNNEL, "stunnel4"))


def require_socat() -> None:
    """Raises SocatMissing."""
    if shutil.which(SOCAT) is None:
        raise SocatMissing(_missing(SOCAT, "socat"))


def ensure(service: Service, wanted: Wanted) -> bool:
    """Run just what is wanted; whether that is anything else than before.

    What must go goes first, so that no host is in two layouts at any moment. Raises CablesFailed,
    CommandError or OSError.
    """
    running = _running(service)
    changed = _end_others(service, wanted.texts, running)
    changed |= cable_plugs.listen(service, wanted.accepting, service.log(ACCEPTING))
    accepting = wanted.texts.get(ACCEPTING)
    if accepting is not None:
        changed |= _accept(service, accepting, running.get(ACCEPTING))
    changed |= cable_plugs.pull(service, {*wanted.calling.values(), *wanted.accepting.values()})
    for name, plug in sorted(wanted.calling.items()):
        changed |= _call(service, name, wanted.texts[name], plug, running.get(name))
    return changed


def is_complete(service: Service, names: Collection[str], accepting: Mapping[Path, Plug]) -> bool:
    """Whether just these stunnels run, and plugs for whom they let in."""
    return _running(service).keys() == set(names) and cable_plugs.stand(service, accepting)


def _end_others(service: Service, texts: Mapping[str, str], running: Mapping[str, int]) -> bool:
    known = {path.name.removesuffix(_SUFFIX) for path in service.place.glob(f"*{_SUFFIX}")}
    others = (known | running.keys()) - texts.keys()
    for name in others:
        _end(service, name, running.get(name))
        _file(service, name).unlink(missing_ok=True)
        service.log(name).unlink(missing_ok=True)
    return bool(others)


def _accept(service: Service, text: str, pid: int | None) -> bool:
    """Have calls taken as the text says; those that go on are not interrupted."""
    file = _file(service, ACCEPTING)
    before = _read(file)
    if pid is not None and before == text:
        return False
    service.write(file, text)
    if pid is None:
        _start(service, ACCEPTING, [STUNNEL, str(file)])
        return True
    said = _size(service.log(ACCEPTING))
    processes.signalled(pid, STUNNEL, str(file), signal.SIGHUP, wait=False)
    try:
        _wait(service, ACCEPTING, said)
    except CablesFailed:
        # What it does not know of yet must not count as known.
        service.write(file, before or "")
        raise
    return True


def _call(service: Service, name: str, text: str, plug: Plug, pid: int | None) -> bool:
    """Have one cable laid as the text says; calling once more is no change."""
    file = _file(service, name)
    changed = _read(file) != text
    if changed or pid is None:
        _end(service, name, pid)
        service.write(file, text)
        _start(service, name, cables.caller(plug, file))
    return changed


def _start(service: Service, name: str, argv: list[str]) -> None:
    log = service.log(name)
    said = _size(log)
    shell.detach([*service.become, *argv], log=log)
    _wait(service, name, said)


def _wait(service: Service, name: str, since: int) -> None:
    """Until stunnel has said whether it takes its file."""
    log = service.log(name)
    deadline = time.monotonic() + SECONDS
    while _TAKEN not in (said := _said(log, since)):
        if _REFUSED in said or time.monotonic() > deadline:
            raise CablesFailed(
                f"{STUNNEL} took no cables: see {log}; if another program has its port, set"
                " CUMULET_HOST_CABLE_PORT to another one"
            )
        time.sleep(POLL_SECONDS)


def _end(service: Service, name: str, pid: int | None) -> None:
    if pid is not None:
        processes.end(pid, STUNNEL, str(_file(service, name)))


def _running(service: Service) -> dict[str, int]:
    """By name, the pids of our stunnels."""
    found = {}
    for pid, words in processes.running(STUNNEL).items():
        file = Path(words[0]) if words else Path()
        if file.parent == service.place and file.suffix == _SUFFIX:
            found[file.name.removesuffix(_SUFFIX)] = pid
    return found


def _file(service: Service, name: str) -> Path:
    return service.place / f"{name}{_SUFFIX}"


def _read(file: Path) -> str | None:
    return file.read_text() if file.exists() else None


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _said(log: Path, since: int) -> bytes:
    with log.open("rb") as file:
        file.seek(since if since <= os.fstat(file.fileno()).st_size else 0)
        return file.read()


def _missing(program: str, package: str) -> str:
    return (
        f"there is no {program} on this host, so no cable joins its private networks to those of"
        f" other hosts: `apt install {package}`"
    )
