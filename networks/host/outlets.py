"""The processes that lead guests in user mode outside (`networks.host.outside`), as the agent has
them: started so that they outlive it, found again, told what changed, ended.
"""

from __future__ import annotations

import json
import shutil
import signal
import struct
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from cloud import files, shell
from cloud.errors import CumuletError
from networks.host import processes, slirp
from networks.host.outside_filter import REASONS
from networks.host.outside_orders import COUNTERS, Orders, Place, digest
from networks.host.traffic import Traffic

_PROGRAM = Path(sys.executable).name
_SECONDS = 10.0
_POLL_SECONDS = 0.005


class OutletFailed(CumuletError):
    """The process that leads a guest outside did not come up."""

    code: ClassVar[str] = "outlet_failed"
    retryable: ClassVar[bool] = True


class PortTaken(CumuletError):
    """A port of the host that is to lead to a guest cannot be opened."""

    code: ClassVar[str] = "forward_port_taken"
    retryable: ClassVar[bool] = True


def ensure(path: Path, orders: Orders, log: Path) -> None:
    """Have a process in this directory do so. One caller at a time.

    Raises SlirpMissing, OutletFailed, PortTaken, CommandError or OSError.
    """
    place, text = Place(path), orders.encode()
    if serves(path, orders):
        return
    slirp.require()
    pid = find(path)
    if pid is not None and not _is_like(place, orders):
        remove(path)
        pid = None
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.answer.unlink(missing_ok=True)
    files.write(place.orders, text)
    if pid is None:
        shell.detach([sys.executable, "-m", "networks.host.outside", path], log=log)
    else:
        processes.signalled(pid, _PROGRAM, str(path), signal.SIGHUP, wait=False)
    _await_answer(place, digest(text), log)


def serves(path: Path, orders: Orders) -> bool:
    """Whether a process does just that.

    Told by what its orders say, not by how they are written: a process of an earlier release goes
    on with its guest's connections, as long as nothing new is asked of it.
    """
    place = Place(path)
    try:
        text = place.orders.read_bytes()
    except OSError:
        return False
    obeyed = _answer(place) == {"orders": digest(text), "refused": []}
    return obeyed and _read(text) == orders and find(path) is not None


def find(path: Path) -> int | None:
    return processes.find(_PROGRAM, str(path), Place(path).pid) if path.exists() else None


def traffic(path: Path) -> Traffic | None:
    """Since the directory was made; None if no process ever counted."""
    numbers = _counted(path)
    if numbers is None:
        return None
    packets_out, bytes_out, packets_in, bytes_in = numbers[:4]
    return Traffic(packets_in, packets_out, bytes_in, bytes_out)


def dropped(path: Path) -> dict[str, int]:
    """Frames of the guest that were not let outside, by reason."""
    numbers = _counted(path)
    return dict(zip(REASONS, numbers[4:], strict=True)) if numbers else {}


def remove(path: Path) -> None:
    """Neither the process nor its directory is left."""
    pid = find(path)
    if pid is not None:
        processes.end(pid, _PROGRAM, str(path))
    shutil.rmtree(path, ignore_errors=True)


def _counted(path: Path) -> tuple[int, ...] | None:
    with suppress(OSError, struct.error):
        return COUNTERS.unpack(Place(path).counters.read_bytes())
    return None


def _is_like(place: Place, orders: Orders) -> bool:
    """Whether the process can change from its present orders to these."""
    with suppress(OSError):
        present = _read(place.orders.read_bytes())
        if present is not None:
            changed = replace(present, protected=orders.protected, forwards=orders.forwards)
            return changed == orders
    return False


def _read(text: bytes) -> Orders | None:
    """None for what another release wrote and this one does not know."""
    with suppress(ValueError, TypeError, KeyError):
        return Orders.decode(text)
    return None


def _await_answer(place: Place, wanted: str, log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while (answer := _answer(place)) is None or answer["orders"] != wanted:
        if time.monotonic() > deadline:
            raise OutletFailed(
                f"the guest's way outside did not come up within {_SECONDS:g} s: see {log}"
            )
        time.sleep(_POLL_SECONDS)
    if answer["refused"]:
        first = answer["refused"][0]
        raise PortTaken(
            f"port {first['port']}/{first['protocol']} of {first['address']} cannot lead to the"
            f" guest's port {first['guest_port']} ({first['reason']}): free it, or give the host"
            " other ports in CUMULET_HOST_FORWARD_PORTS; it is tried again"
        )


def _answer(place: Place) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        answer: dict[str, Any] = json.loads(place.answer.read_bytes())
        return answer
    return None
