"""The switches of hosts without any privilege: a `vde_switch` for each network, found again later.

It outlives whoever started it, and has a directory to itself: QEMU and cables plug in at sockets
there, which only its own user can open. One that was killed leaves them behind; whoever looks next
clears them away and starts it anew. What was plugged in must then be plugged in again, because
QEMU does not notice (`plugged` tells). On a root host the gateway of a network has one too, which
runs as QEMU's user. Callers see to it that only one of them works on a switch at a time.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cloud import shell
from cloud.errors import CumuletError
from networks.host import prepared_tap, processes, switch_console
from networks.host.switch_console import SwitchSilent

PROGRAM = "vde_switch"
_START_SECONDS = 10.0
_POLL_SECONDS = 0.005
# Members and cables; a port that is not used costs nothing.
_PORTS = 4096


class VdeMissing(CumuletError):
    """The programs of VDE are not installed."""

    code: ClassVar[str] = "vde_missing"


class SwitchFailed(CumuletError):
    """A switch did not come up."""

    code: ClassVar[str] = "switch_failed"
    retryable: ClassVar[bool] = True


@dataclass(frozen=True)
class Owner:
    """Another user that the switch runs as, and the words before a command that becomes it."""

    uid: int
    gid: int
    become: tuple[str, ...]


@dataclass(frozen=True)
class Switch:
    """`place`: a directory that is the switch's alone, whose parent exists; plugs connect to it.

    `tap`: an interface that is a port of it. `owner` None: it runs as the caller does.
    """

    place: Path
    tap: str | None = None
    owner: Owner | None = None

    @property
    def console(self) -> Path:
        return self.place / "console"

    @property
    def control(self) -> Path:
        """Where plugs ask for a port."""
        return self.place / "ctl"

    @property
    def pid(self) -> Path:
        return self.place / "pid"

    @property
    def argv(self) -> list[str]:
        return [
            *(self.owner.become if self.owner else ()),
            *(PROGRAM, "--daemon", "--pidfile", str(self.pid)),
            # What an administrator or user configured is for their own switches.
            *("--rcfile", "/dev/null"),
            *("--numports", str(_PORTS)),
            *("--sock", str(self.place), "--mode", "600", "--dirmode", "700"),
            *("--mgmt", str(self.console), "--mgmtmode", "600"),
            *(("--tap", self.tap) if self.tap else ()),
        ]


def require() -> None:
    """Raises VdeMissing."""
    if shutil.which(PROGRAM) is None:
        raise VdeMissing(
            f"there is no {PROGRAM} on this host, which connects guests of hosts in user mode:"
            " `apt install vde2`"
        )


def ensure(switch: Switch) -> bool:
    """Run the switch; whether it had to be started. Raises VdeMissing, SwitchFailed, TapInUse,
    SwitchSilent, CommandError or OSError.
    """
    if is_alive(switch):
        return False
    require()
    remove(switch)
    switch.place.mkdir(mode=0o700)
    if switch.owner:
        os.chown(switch.place, switch.owner.uid, switch.owner.gid)
    shell.run(switch.argv, timeout=_START_SECONDS)
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(switch):
        if find(switch) is None or time.monotonic() > deadline:
            raise SwitchFailed(f"{PROGRAM} did not start: see why with `{_by_hand(switch)}`")
        time.sleep(_POLL_SECONDS)
    if switch.tap and switch.tap not in switch_console.taps(switch.console):
        remove(switch)  # it would go on without
        raise prepared_tap.in_use(switch.tap)
    return True


def is_alive(switch: Switch) -> bool:
    """Whether it runs and can be reached."""
    return find(switch) is not None and switch.control.exists()


def find(switch: Switch) -> int | None:
    """The pid of the switch. Looks at every process if the pid file does not lead to it."""
    return processes.find(PROGRAM, str(switch.place), switch.pid)


def plugged(switch: Switch) -> frozenset[int]:
    """The pids of the programs that are plugged in. Raises SwitchSilent."""
    return frozenset(switch_console.plugs(switch.console))


def remove(switch: Switch) -> None:
    """Neither the switch nor anything of a killed one is left; its guests' cables hang loose."""
    pid = find(switch)
    if pid is not None:
        processes.end(pid, PROGRAM, str(switch.place))
    shutil.rmtree(switch.place, ignore_errors=True)


def _answers(switch: Switch) -> bool:
    try:
        plugged(switch)
    except SwitchSilent:
        return False
    return True


def _by_hand(switch: Switch) -> str:
    return " ".join(word for word in switch.argv if word != "--daemon")
