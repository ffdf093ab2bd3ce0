"""QEMU and the guest in it, as the host's code meets them: by QMP, by events, by frames."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qemu.qmp import ConnectError

from tests.simulation import actors
from vms.host import qmp
from vms.host.qmp import Command, QmpAbsent, QmpRefused, QmpSilent

if TYPE_CHECKING:
    from tests.simulation.actors import Effects
    from tests.simulation.world import World

BOOT_SECONDS, END_SECONDS, CONSENT_SECONDS = 2.0, 1.0, 0.2
_FILE = re.compile(r"driver=file,node-name=\S+?-file,filename=(.+?),")


class Guest(Enum):
    BOOTING = "booting"
    UP = "up"
    ENDING = "ending"
    OFF = "off"


@dataclass(eq=False)
class Qemu:
    """`netdevs` by name; `cables`: switches that it is plugged into."""

    uuid: str
    run: Path
    disks: list[str]
    netdevs: dict[str, dict[str, str]]
    devices: set[str]
    cables: set[str] = field(default_factory=set)
    guest: Guest = Guest.OFF
    frames: int = 0
    listeners: list[asyncio.Queue[dict[str, str]]] = field(default_factory=list)
    hang_ups: list[asyncio.Future[None]] = field(default_factory=list)

    @classmethod
    def of(cls, argv: list[str]) -> Qemu:
        words = list(pairwise(argv))
        netdevs = [_netdev(text) for option, text in words if option == "-netdev"]
        devices = {
            part.removeprefix("id=")
            for option, text in words
            if option == "-device"
            for part in text.split(",")
            if part.startswith("id=")
        }
        return cls(
            uuid=argv[argv.index("-uuid") + 1],
            run=Path(argv[argv.index("-pidfile") + 1]).parent,
            disks=[found for word in argv for found in _FILE.findall(f"{word},")],
            netdevs={one["id"]: one for one in netdevs},
            devices=devices,
        )

    def twin(self) -> Qemu:
        """The same, with nobody connected."""
        return Qemu(
            self.uuid,
            self.run,
            list(self.disks),
            {name: dict(one) for name, one in self.netdevs.items()},
            set(self.devices),
            set(self.cables),
            self.guest,
            self.frames,
        )

    def belong(self, world: World, pid: int) -> None:
        self._world, self._pid, self._steps = world, pid, 0
        self._leaving: dict[str, float] = {}
        self.silent_until = 0.0

    def begin(self, world: World, pid: int) -> None:
        self.belong(world, pid)
        for netdev in self.netdevs.values():
            self._plug_in(netdev)
        self._boot()

    def end(self) -> None:
        self.guest = Guest.OFF
        self.cables.clear()
        for future in self.hang_ups:
            if not future.done():
                future.set_result(None)

    @property
    def alive(self) -> bool:
        return self._world.processes.get(self._pid) is not None

    def fall_silent(self, seconds: float) -> None:
        """It lives, and answers nobody."""
        self.silent_until = self._world.clock.elapsed + seconds

    @property
    def silent(self) -> bool:
        return self._world.clock.elapsed < self.silent_until

    @property
    def state(self) -> str:
        return qmp.HALTED if self.guest is Guest.OFF else "running"

    def execute(self, name: str, arguments: dict[str, Any]) -> Any:
        """Raises QmpRefused."""
        # Whoever waits for the guest's consent asks again, and lets time pass in between.
        for device, consent in list(self._leaving.items()):
            if consent <= self._world.clock.elapsed:
                self.devices.discard(device)
                del self._leaving[device]
        match name:
            case "query-status":
                return {"status": self.state}
            case "qom-list":
                return [{"name": one} for one in sorted(self.devices)]
            case "query-blockstats":
                return []
            case "quit":
                process = self._world.processes.get(self._pid)
                assert process is not None
                self._world.processes.end(process)
            case "system_powerdown":
                if self.guest is Guest.UP:
                    self.guest = Guest.ENDING
                    self._later(END_SECONDS, Guest.ENDING, self._go_off)
            case "system_reset":
                self._boot()
            case "cont":
                pass
            case "device_add":
                if arguments["id"] in self.devices or arguments["netdev"] not in self.netdevs:
                    raise QmpRefused(f"device {arguments['id']}")
                self.devices.add(arguments["id"])
            case "device_del":
                if arguments["id"] not in self.devices:
                    raise QmpRefused(f"no device {arguments['id']}")
                if self.guest is Guest.UP:
                    consent = self._world.clock.elapsed + CONSENT_SECONDS
                    self._leaving.setdefault(arguments["id"], consent)
            case "netdev_add":
                self._add_netdev({key: str(value) for key, value in arguments.items()})
            case "netdev_del":
                gone_netdev = self.netdevs.pop(arguments["id"], None)
                if gone_netdev is None:
                    raise QmpRefused(f"no netdev {arguments['id']}")
                self.cables.discard(gone_netdev.get("sock", ""))
            case _:
                raise QmpRefused(f"no command {name}")
        return {}

    def go_off(self) -> None:
        """The guest switches itself off."""
        if self.guest is Guest.UP:
            self._go_off()

    def _add_netdev(self, netdev: dict[str, str]) -> None:
        if netdev["id"] in self.netdevs:
            raise QmpRefused(f"netdev {netdev['id']} is there")
        machine = actors.machine()
        if netdev["type"] == "tap" and machine.kernel.named(netdev["ifname"], 0) is None:
            raise QmpRefused(f"no interface {netdev['ifname']}")
        if netdev["type"] == "vde" and not Path(netdev["sock"], "ctl").exists():
            raise QmpRefused(f"no switch {netdev['sock']}")
        self.netdevs[netdev["id"]] = netdev
        self._plug_in(netdev)

    def _plug_in(self, netdev: dict[str, str]) -> None:
        if netdev["type"] == "vde":
            self.cables.add(netdev["sock"])

    def _boot(self) -> None:
        self.guest = Guest.BOOTING
        self._later(BOOT_SECONDS, Guest.BOOTING, self._come_up)

    def _come_up(self) -> None:
        self.guest = Guest.UP
        self.frames += 1

    def _go_off(self) -> None:
        self.guest = Guest.OFF
        for listener in self.listeners:
            listener.put_nowait({"event": "SHUTDOWN"})

    def _later(self, seconds: float, state: Guest, act: Any) -> None:
        """If nothing else happened to it until then."""
        self._steps += 1
        step = self._steps

        def due() -> None:
            if self.alive and self.guest is state and (step == self._steps or state is Guest.UP):
                act()

        self._world.later(seconds, due)


def _netdev(text: str) -> dict[str, str]:
    kind, *rest = text.split(",")
    return {"type": kind, **dict(part.split("=", 1) for part in rest)}


class Monitor:
    """In the place of `qemu.qmp.QMPClient`, for the connection that hears events."""

    def __init__(self) -> None:
        self.events = _Events()
        self.await_greeting = self.negotiate = True
        self._qemu: Qemu | None = None
        self._hang_up: asyncio.Future[None] | None = None

    async def connect(self, socket: str) -> None:
        self._qemu = actors.machine().qemu_at(Path(socket))
        if self._qemu is None:
            raise ConnectError("no QEMU", FileNotFoundError())
        self._qemu.listeners.append(self.events.queue)
        self._hang_up = asyncio.get_running_loop().create_future()
        self._qemu.hang_ups.append(self._hang_up)

    async def disconnect(self) -> None:
        if self._qemu is not None:
            self._qemu.listeners.remove(self.events.queue)
            self._qemu.hang_ups.remove(self._hang_up)
            self._qemu = None

    async def execute(self, name: str, arguments: Any = None) -> Any:
        assert self._qemu is not None
        return self._qemu.execute(name, dict(arguments or {}))

    async def runstate_changed(self) -> None:
        assert self._hang_up is not None
        await asyncio.shield(self._hang_up)


class _Events:
    def __init__(self) -> None:
        self.names: set[str] = set()
        self.queue: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    async def get(self) -> dict[str, str]:
        return await self.queue.get()


_READING = ("query-status", "qom-list", "query-blockstats")


def ask(effects: Effects, socket: Path, *commands: str | Command) -> list[Any]:
    """In the place of `vms.host.qmp.ask`: what changes something is an effect."""
    answers = []
    for one in commands:
        command = Command(one) if isinstance(one, str) else one
        qemu = actors.machine().qemu_at(Path(socket))
        if qemu is None:
            raise QmpAbsent(f"nobody listens on {socket}")
        if qemu.silent:
            actors.machine().world.clock.sleep(qmp.EXECUTE_SECONDS)
            raise QmpSilent(f"no answer on {socket}")
        arguments = dict(command.arguments)
        if command.name in _READING:
            answers.append(qemu.execute(command.name, arguments))
        else:
            what = f"qmp {command.name} {arguments.get('id', '')}".strip()
            answers.append(effects.do(what, qemu.execute, command.name, arguments))
    return answers


def ask_agent(socket: Path, command: str) -> Any:
    """No guest of the simulation has an agent."""
    raise QmpAbsent(f"no agent on {socket} for {command}")
