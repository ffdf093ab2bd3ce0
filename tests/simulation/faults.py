"""What goes wrong in one run: a plan that is told from its name, so that it can be repeated.

`kill:12` kills whoever is about to have the twelfth effect, `kill:12+` right after it; `broker:12`
stops the broker at that moment, empties its queues, and brings it back; `storm:3` doubles most
messages and delays them by up to ten seconds, which mixes them; `seed:7` is a bad time in which
several things happen, as that seed's dice fall.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.actors import Actor, merciful
from tests.simulation.bus import CALM, Weather

if TYPE_CHECKING:
    from tests.simulation.world import World

BROKER_SECONDS = 20.0
BAD_SECONDS = 12.0
SILENT_SECONDS = 8.0
_EFFECTS = 250
STORM = Weather(doubled=0.8, delay=10.0)


class BadName(ValueError):
    """No plan is called so."""


@dataclass(frozen=True)
class Faults:
    """One plan. `seconds`: for how long things go wrong before they are let settle."""

    name: str

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]

    @property
    def number(self) -> int:
        return int(self.name.partition(":")[2].rstrip("+"))

    @property
    def seconds(self) -> float:
        return BAD_SECONDS if self.kind in ("seed", "storm") else 0.0

    def begin(self, world: World) -> None:
        """From here on things go wrong. Raises BadName."""
        match self.kind:
            case "none":
                world.effects.begin(merciful)
            case "kill":
                self._kill_one(world)
            case "broker":
                self._stop_broker(world)
            case "storm":
                world.random.seed(self.number)
                world.bus.weather = STORM
                world.effects.begin(merciful)
            case "seed":
                self._throw_dice(world)
            case _:
                raise BadName(
                    f"{self.name!r} is not none, kill:N, kill:N+, broker:N, storm:N or seed:N"
                )

    def end(self, world: World) -> None:
        """Nothing goes wrong any more."""
        if self.seconds:
            world.effects.judge = merciful
            world.bus.weather = CALM
            world.bus.return_()
            world.control.interleave = 0.0

    def _kill_one(self, world: World) -> None:
        number, after = self.number, self.name.endswith("+")

        def judge(seen: int, actor: Actor, what: str, at_end: bool) -> bool:
            return (seen, at_end) == (number, after)

        world.effects.begin(judge)

    def _stop_broker(self, world: World) -> None:
        number = self.number

        def judge(seen: int, actor: Actor, what: str, at_end: bool) -> bool:
            if seen == number and not at_end:
                _lose_broker(world, BROKER_SECONDS)
            return False

        world.effects.begin(judge)

    def _throw_dice(self, world: World) -> None:
        dice = Random(self.number)
        world.random.seed(self.number)
        world.bus.weather = Weather(
            lost=dice.choice((0.0, 0.1, 0.4)),
            doubled=dice.choice((0.0, 0.2, 0.5)),
            delay=dice.choice((0.0, 1.0, 8.0)),
        )
        world.control.interleave = dice.choice((0.0, 0.3))
        victims = {dice.randrange(_EFFECTS): dice.random() < 0.5 for _ in range(dice.randrange(5))}

        def judge(seen: int, actor: Actor, what: str, at_end: bool) -> bool:
            return seen in victims and victims[seen] is at_end

        world.effects.begin(judge)
        for _ in range(dice.randrange(3)):
            _one_event(world, dice)


_EVENTS = ("broker", "reboot", "agent", "monitor", "control", "program", "silence")


def _one_event(world: World, dice: Random) -> None:
    when = dice.uniform(0.0, BAD_SECONDS / 2)
    name = dice.choice(sorted(world.machines))
    match dice.choice(_EVENTS):
        case "broker":
            seconds = dice.uniform(1.0, BAD_SECONDS)
            world.later(when, lambda: _lose_broker(world, seconds, purge=dice.random() < 0.5))
        case "reboot":
            world.later(when, world.programs[name].reboot)
        case "control":
            world.later(when, world.control.kill)
        case "silence":
            world.later(when, lambda: _silence(world, name))
        case "program":
            world.later(when, lambda: _end_a_program(world, name, dice))
        case kind:
            world.later(when, lambda: world.programs[name].kill(kind))


def _end_a_program(world: World, name: str, dice: Random) -> None:
    running = world.machines[name].processes
    if running:
        world.processes.end(dice.choice(running))


def _silence(world: World, name: str) -> None:
    for qemu in world.machines[name].guests:
        qemu.fall_silent(SILENT_SECONDS)


def _lose_broker(world: World, seconds: float, *, purge: bool = True) -> None:
    world.bus.away = True
    if purge:
        world.bus.purge()
    world.later(seconds, world.bus.return_)


def points(trace: list[tuple[str, str]]) -> list[str]:
    """Every moment of a recorded run at which a kill makes a difference, once: after an effect is
    the same as before the next one of the same program.
    """
    before = [f"kill:{number}" for number in range(len(trace))]
    after = [
        f"kill:{number}+"
        for number, (actor, _) in enumerate(trace)
        if number + 1 == len(trace) or trace[number + 1][0] != actor
    ]
    return [*before, *after]
