"""A cloud of a few machines and its control plane; it can be kept as it is and begun again."""

from __future__ import annotations

import asyncio
import copy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

from django.db import connection, connections, transaction

from cloud.errors import CumuletError
from tests.simulation import actors, control, seams
from tests.simulation.actors import Actor, Effects, Killed
from tests.simulation.bus import Bus
from tests.simulation.clock import Clock, VirtualLoop
from tests.simulation.control import Control
from tests.simulation.guests import Qemu
from tests.simulation.hosts import HostPrograms
from tests.simulation.machine import Machine, Processes


@dataclass(frozen=True)
class Plan:
    """Machines by name; those named in `routed` may make links, the others are in user mode."""

    routed: tuple[str, ...] = ("h1", "h2")
    user: tuple[str, ...] = ()


class World:
    """`complaints`: what must never happen at any moment, as it happened."""

    def __init__(self, place: Path, machines: Plan) -> None:
        self.place, self.plan = place, machines
        self.clock = Clock()
        self.random = Random(0)
        self.effects = Effects()
        self.bus = Bus(self.clock, self.effects, self.random)
        self.processes = Processes(place / "proc")
        self.control = Control(self)
        self.complaints: list[str] = []
        self.fetchers: list[Actor] = []
        names = [*((name, True) for name in machines.routed)]
        names += [(name, False) for name in machines.user]
        self.machines = {
            name: Machine(self, name, number, routes=routes)
            for number, (name, routes) in enumerate(names)
        }
        self.programs: dict[str, HostPrograms] = {}

    def start(self) -> None:
        """All programs of the cloud, within the loop."""
        self.control.start()
        for name, machine in self.machines.items():
            self.programs[name] = HostPrograms(self, machine)
            self.programs[name].start()

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Something of the world's own, that no program does."""

        def acted() -> None:
            with actors.acting_as(None):
                act()

        asyncio.get_running_loop().call_later(seconds, acted)

    def complain(self, what: str) -> None:
        if what not in self.complaints:
            self.complaints.append(what)

    def note_start(self, machine: Machine, qemu: Qemu) -> None:
        """No VM is there twice, at any moment."""
        for process in self.processes:
            if process.qemu is not None and process.qemu.uuid == qemu.uuid:
                self.complain(
                    f"{qemu.uuid} is started on {machine.name} and runs on {process.machine.name}"
                )

    def ask(self, act: Callable[[], Any], name: str = "web") -> Any:
        """Somebody's request, by a worker of the web server that may be killed as any other."""
        with actors.acting_as(Actor(name)):
            return act()

    def ask_and_forget(self, act: Callable[[], Any]) -> None:
        """A request that may be refused, or die with its worker."""
        with suppress(Killed, CumuletError):
            self.ask(act)


@contextmanager
def running(world: World) -> Iterator[asyncio.Runner]:
    """The seams are in place, and a loop in virtual time."""
    # Each task would have a connection of its own, and not see what the test's transaction holds.
    shared = SimpleNamespace(default=connections["default"])
    with (
        mock.patch.object(connections, "_connections", shared),
        seams.replaced(world),
        control.transactions(world.effects, world.control.between),
        asyncio.Runner(loop_factory=lambda: VirtualLoop(world.clock)) as runner,
    ):
        runner.get_loop().set_task_factory(actors.task_factory)
        yield runner


class Kept:
    """A world as it was at one moment, when nothing was under way: directories, kernels,
    processes, and the database.
    """

    def __init__(self, world: World, name: str) -> None:
        self._place, self._plan = world.place, world.plan
        self._copy = world.place.with_name(f"kept-{name}")
        shutil.copytree(self._place, self._copy)
        self._elapsed = world.clock.elapsed
        self._boots = {name: machine.boots for name, machine in world.machines.items()}
        self._kernels = {
            name: copy.deepcopy(machine.kernel) for name, machine in world.machines.items()
        }
        self._processes = world.processes.keep()
        self._sequences = _sequences()

    @contextmanager
    def again(self) -> Iterator[World]:
        """The same moment once more; the database is as it was when the block has ended."""
        shutil.rmtree(self._place)
        shutil.copytree(self._copy, self._place)
        world = World(self._place, self._plan)
        world.clock.elapsed = self._elapsed
        for name, machine in world.machines.items():
            machine.boots = self._boots[name]
            machine.kernel = copy.deepcopy(self._kernels[name])
        world.processes.restore(self._processes, world)
        before = transaction.savepoint()
        try:
            with connection.cursor() as cursor:
                cursor.execute(self._sequences)
            yield world
        finally:
            connection.needs_rollback = False
            transaction.savepoint_rollback(before)

    def forget(self) -> None:
        shutil.rmtree(self._copy)


def _sequences() -> str:
    """Numbers do not go back with a transaction; runs are the same only if they begin alike."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT schemaname, sequencename, last_value FROM pg_sequences"
            " WHERE last_value IS NOT NULL"
        )
        rows = cursor.fetchall()
    values = ", ".join(f"setval('{schema}.{name}', {value})" for schema, name, value in rows)
    return f"SELECT {values}"
