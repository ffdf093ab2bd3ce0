"""The plugs at the ends of a host's cables: what waits for calls, and which of the plugs may be.

A plug is known by its arguments, what has one for each call by its own (`cables.listener`).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cloud import shell
from cloud.errors import CumuletError
from networks.host import cables, processes
from networks.host.cables import PLUG, SOCAT

SECONDS = 10.0
POLL_SECONDS = 0.01

Plug = tuple[str, ...]


class CablesFailed(CumuletError):
    """Cables to other hosts did not come up."""

    code: ClassVar[str] = "cables_failed"
    retryable: ClassVar[bool] = True


@dataclass(frozen=True)
class Service:
    """`place`: a directory for the programs' files, which the user that they run as can pass
    through; sockets: one of that user's alone.

    become: the words before a command that becomes that user; write: makes a file that it can
    read; log: of each stunnel by its name.
    """

    place: Path
    sockets: Path
    become: Sequence[str]
    write: Callable[[Path, str], None]
    log: Callable[[str], Path]


def listen(service: Service, plugs: Mapping[Path, Plug], log: Path) -> bool:
    """Have just these plugs for calls, by socket; whether anything changed. Cables that are laid
    stay. Raises CablesFailed, CommandError or OSError.
    """
    wanted = {tuple(cables.listener(plug, socket)[1:]): socket for socket, plug in plugs.items()}
    listening = set()
    changed = False
    for pid, words in _listeners(service).items():
        if words in wanted and wanted[words].exists():
            listening.add(words)
            continue
        processes.end(pid, SOCAT, words[0])
        changed = True
    for words in wanted.keys() - listening:
        wanted[words].unlink(missing_ok=True)
        shell.detach([*service.become, SOCAT, *words], log=log)
        _wait(wanted[words], log)
        changed = True
    for path in set(service.sockets.glob("*")) - plugs.keys():
        path.unlink(missing_ok=True)
    return changed


def stand(service: Service, plugs: Mapping[Path, Plug]) -> bool:
    """Whether calls for just these find one, and no plug is one too many at an end."""
    words = {tuple(cables.listener(plug, socket)[1:]) for socket, plug in plugs.items()}
    return (
        set(_listeners(service).values()) == words
        and all(socket.exists() for socket in plugs)
        and not (plugs and _superfluous(service, plugs.values()))
    )


def pull(service: Service, plugs: Collection[Plug]) -> bool:
    """End the plugs of cables that must not be, whoever is at their other end; whether any was.

    Of two of one cable it ends the older one: its end of the connection may still wait for a host
    that was cut off, which has called anew by now.
    """
    superfluous = _superfluous(service, plugs)
    for pid, words in superfluous.items():
        processes.signalled(pid, PLUG, words[-1], signal.SIGKILL, wait=True)
    return bool(superfluous)


def _superfluous(service: Service, plugs: Collection[Plug]) -> dict[int, Plug]:
    ours = f"vde://{service.place.parent}/"
    newest: dict[Plug, tuple[int, int]] = {}
    found = {}
    for pid, words in processes.running(PLUG).items():
        if words[:1] == ("-D",) and words[-1].startswith(ours):
            found[pid] = words
            with suppress(OSError):
                newest[words] = max(newest.get(words, (0, 0)), (processes.started(pid), pid))
    kept = {newest[words][1] for words in plugs if words in newest}
    return {pid: words for pid, words in found.items() if pid not in kept}


def _listeners(service: Service) -> dict[int, tuple[str, ...]]:
    """By pid; a child that is about to become a plug may be among them for a moment."""
    ours = f'UNIX-LISTEN:"{service.sockets}/'
    found = processes.running(SOCAT)
    return {pid: words for pid, words in found.items() if words and words[0].startswith(ours)}


def _wait(socket: Path, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not socket.exists():
        if time.monotonic() > deadline:
            raise CablesFailed(f"{SOCAT} waits for no cables: see {log}")
        time.sleep(POLL_SECONDS)
