"""A machine that is a host: its kernel, its processes, its directories; it can be rebooted.

Processes are known to the real code by a directory like /proc, which all machines share, as the
lab's hosts do.
"""

from __future__ import annotations

import itertools
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud.hostconfig import HostConfig, TlsIdentity
from tests.simulation.guests import Qemu
from tests.simulation.kernel import Kernel

if TYPE_CHECKING:
    from tests.simulation.world import World


@dataclass(eq=False)
class Process:
    """`ports`: of its host that it has open; `heed`: what it does when it is told to look again."""

    pid: int
    machine: Machine
    argv: list[str]
    qemu: Qemu | None = None
    ports: set[tuple[str, int]] = field(default_factory=set)
    heed: Callable[[Process], None] | None = None


@dataclass(frozen=True)
class _Kept:
    pid: int
    machine: str
    argv: tuple[str, ...]
    qemu: Qemu | None
    ports: frozenset[tuple[str, int]]
    heed: Callable[[Process], None] | None


class Processes:
    """Of all machines."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._pids = itertools.count(1000)
        self._alive: dict[int, Process] = {}
        place.mkdir(parents=True, exist_ok=True)

    def keep(self) -> list[_Kept]:
        """All of them, to be brought back with the directory that they are seen in."""
        return [
            _Kept(
                one.pid,
                one.machine.name,
                tuple(one.argv),
                one.qemu.twin() if one.qemu else None,
                frozenset(one.ports),
                one.heed,
            )
            for one in self
        ]

    def restore(self, kept: list[_Kept], world: World) -> None:
        for one in kept:
            machine = world.machines[one.machine]
            qemu = one.qemu.twin() if one.qemu else None
            process = Process(one.pid, machine, list(one.argv), qemu, set(one.ports), one.heed)
            self._alive[one.pid] = process
            if qemu is not None:
                qemu.belong(world, one.pid)
        self._pids = itertools.count(max([1000, *self._alive]) + 1)

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self._alive.values()))

    def get(self, pid: int) -> Process | None:
        return self._alive.get(pid)

    def start(self, machine: Machine, argv: list[str], **more: Any) -> Process:
        process = Process(next(self._pids), machine, argv, **more)
        self._alive[process.pid] = process
        proc = self.place / str(process.pid)
        proc.mkdir()
        (proc / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in argv))
        # proc(5): the start time is the 22nd field, the state the third.
        fields = ["S", *["0"] * 18, str(process.pid), "0", "0"]
        (proc / "stat").write_text(f"{process.pid} (program) {' '.join(fields)}\n")
        return process

    def end(self, process: Process) -> None:
        if self._alive.pop(process.pid, None) is None:
            return
        shutil.rmtree(self.place / str(process.pid))
        if process.qemu is not None:
            process.qemu.end()
        if process.argv[0] == "tail":
            process.machine.kernel.end_namespace(process.pid)

    def signal(self, pid: int, number: int) -> None:
        process = self._alive.get(pid)
        if process is None:
            raise ProcessLookupError(pid)
        if number in (signal.SIGTERM, signal.SIGKILL):
            self.end(process)
        elif process.heed is not None:
            process.heed(process)

    def of(self, machine: Machine) -> list[Process]:
        return [one for one in self if one.machine is machine]


class Machine:
    """`routes`: its agent may make links; else the host is in user mode."""

    def __init__(self, world: World, name: str, number: int, *, routes: bool) -> None:
        self.world, self.name, self.routes = world, name, routes
        self.address = f"192.0.2.{number + 10}"
        self.kernel = Kernel(self.address)
        self.boots = 1
        home = world.place / name
        self.config = HostConfig(
            name=name,
            broker_url=f"amqp://host-{name}:secret@192.0.2.2/cumulet",
            state_dir=home / "state",
            run_dir=home / "run",
            cores=8,
            memory_mb=16384,
            tls=None if routes else TlsIdentity("authority", "certificate", "key"),
        )

    @property
    def boot_id(self) -> str:
        return f"{self.name}-boot-{self.boots}"

    @property
    def processes(self) -> list[Process]:
        return self.world.processes.of(self)

    @property
    def guests(self) -> list[Qemu]:
        return [one.qemu for one in self.processes if one.qemu is not None]

    def reboot(self) -> None:
        """Everything that is not on the disk is lost."""
        for process in self.processes:
            self.world.processes.end(process)
        self.kernel.reset()
        self.boots += 1
        if self.config.run_dir.exists():
            shutil.rmtree(self.config.run_dir)

    def start_qemu(self, argv: list[str], log: Path) -> None:
        """One that cannot start says why in the log and ends."""
        qemu = Qemu.of(argv)
        missing = [
            f"{netdev['ifname']}: no such interface"
            for netdev in qemu.netdevs.values()
            if netdev["type"] == "tap" and self.kernel.named(netdev["ifname"], 0) is None
        ]
        missing += [f"{path}: no such file" for path in qemu.disks if not Path(path).exists()]
        missing += [
            f"{disk} is in use"
            for disk in qemu.disks
            for other in self.guests
            if disk in other.disks and disk.endswith(".qcow2")
        ]
        self.world.note_start(self, qemu)
        if missing:
            with log.open("a") as file:
                file.write(f"qemu: {missing[0]}\n")
            return
        process = self.world.processes.start(self, argv, qemu=qemu)
        qemu.run.joinpath("pid").write_text(f"{process.pid}\n")
        for name in ("qmp", "events"):
            qemu.run.joinpath(name).touch()
        qemu.begin(self.world, process.pid)

    def qemu_at(self, socket: Path) -> Qemu | None:
        return next((one for one in self.guests if one.run == socket.parent), None)

    def plugged(self, switch: Path) -> dict[int, Qemu]:
        """By pid, the guests with a cable in the switch."""
        return {
            process.pid: process.qemu
            for process in self.processes
            if process.qemu is not None and str(switch) in process.qemu.cables
        }

    def pull_cables(self, switch: Path) -> None:
        """The switch ended, and QEMU does not notice."""
        for qemu in self.guests:
            qemu.cables.discard(str(switch))


def write_pid(path: Path, pid: int) -> None:
    path.write_text(f"{pid}\n")
    path.chmod(0o644)
