"""Runs of scenes: one after another, each from the same moment, with other faults."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.db import transaction

from tests.simulation import scenes
from tests.simulation.faults import Faults
from tests.simulation.invariants import violations
from tests.simulation.scenes import Scene, Stage
from tests.simulation.world import Kept, Plan, World, running

# How much virtual time the cloud has after the last fault; most runs need a few seconds.
SETTLE_SECONDS = 120.0
_LOOK_SECONDS = 1.0
CALM = Faults("none")


@dataclass(frozen=True)
class Run:
    """How one schedule went; `wrong` is empty if all is well."""

    scene: str
    faults: str
    wrong: list[str]
    trace: list[tuple[str, str]]
    kills: list[tuple[int, str, str]]
    settled: float

    @property
    def replay(self) -> str:
        """The command that does it again."""
        kind, _, number = self.faults.partition(":")
        how = f"--seed {number}" if kind == "seed" else f"--step {self.faults}"
        return f"deploy/test simulation --scene {self.scene} {how}"

    def __str__(self) -> str:
        killed = "; ".join(f"{actor} {what}" for _, actor, what in self.kills)
        lines = [f"{self.scene} with {self.faults} ({killed or 'nobody killed'}):"]
        return "\n  ".join([*lines, *self.wrong, self.replay])


class Studio:
    """Makes each scene's stage once, and plays it as often as asked.

    Scenes of one plan share the moment at which its hosts have joined: ask for them in a row.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._plan: Plan | None = None
        self._joined: Kept | None = None
        self._before = transaction.savepoint()

    @contextmanager
    def scene(self, scene: Scene) -> Iterator[Rehearsed]:
        """The scene, ready to be played. Raises NotReady."""
        if scene.plan != self._plan:
            self._begin(scene.plan)
        assert self._joined is not None
        with self._joined.again() as world:
            play(world, _prepare(world, scene))
            kept = Kept(world, "scene")
            try:
                yield Rehearsed(scene, kept)
            finally:
                kept.forget()

    def _begin(self, plan: Plan) -> None:
        transaction.savepoint_rollback(self._before)
        self._before = transaction.savepoint()
        if self._joined is not None:
            self._joined.forget()
        self._plan = self._joined = None
        shutil.rmtree(self._place, ignore_errors=True)
        world = World(self._place, plan)
        play(world, _join(world))
        self._plan, self._joined = plan, Kept(world, "joined")


class NotReady(Exception):
    """The cloud did not even come to rest without any fault."""


@dataclass(frozen=True)
class Rehearsed:
    scene: Scene
    kept: Kept

    def play(self, faults: Faults) -> Run:
        with self.kept.again() as world:
            return play(world, _perform(world, self.scene, faults))

    def play_all(self, plans: Iterable[Faults]) -> Iterator[Run]:
        for faults in plans:
            yield self.play(faults)


def play(world: World, story):  # type: ignore[no-untyped-def]
    """Run the story in the world, with nobody's log in the way."""
    logging.disable(logging.CRITICAL)
    try:
        with running(world) as runner:
            return runner.run(story)
    finally:
        logging.disable(logging.NOTSET)


async def _join(world: World) -> None:
    scenes.joined(world)
    world.start()
    await _at_rest(world)
    # What was said twice is heard twice: images are asked for once more.
    await asyncio.sleep(10.0)


async def _prepare(world: World, scene: Scene) -> None:
    world.start()
    for act in scene.before:
        world.ask(lambda act=act: act(Stage(world)))
        await _at_rest(world)


async def _perform(world: World, scene: Scene, faults: Faults) -> Run:
    world.start()
    await asyncio.sleep(0.5)
    faults.begin(world)
    world.ask_and_forget(lambda: scene.act(Stage(world)))
    await asyncio.sleep(max(faults.seconds, scene.seconds))
    faults.end(world)
    began = world.clock.elapsed
    wrong = await _settled(world)
    world.effects.stop()
    return Run(
        scene=scene.name,
        faults=faults.name,
        wrong=wrong,
        trace=world.effects.trace,
        kills=world.effects.kills,
        settled=world.clock.elapsed - began,
    )


async def _at_rest(world: World) -> None:
    wrong = await _settled(world)
    if wrong:
        raise NotReady("\n".join(wrong))


async def _settled(world: World) -> list[str]:
    """What is still wrong after a while; most often nothing, and then it ends at once."""
    deadline = world.clock.elapsed + SETTLE_SECONDS
    wrong: list[str] = []
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        over = world.clock.elapsed > deadline
        wrong = violations(world, thorough=over)
        over = over or bool(world.complaints)
        if not wrong or over:
            return wrong


def seconds_of(runs: Iterator[Run]) -> tuple[list[Run], float]:
    """All runs, and the real seconds that they took."""
    began = time.perf_counter()
    return list(runs), time.perf_counter() - began
