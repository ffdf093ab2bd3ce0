"""Whatever crashes, gets lost or comes twice: the cloud ends up as its users want, and clean."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation.faults import Faults, points
from tests.simulation.runs import CALM, Rehearsed, Studio
from tests.simulation.scenes import BY_NAME, SCENES, Scene
from tests.simulation.tally import Tally

pytestmark = [pytest.mark.django_db, pytest.mark.faults]

# Of each scene in a run of all tests; `deploy/test simulation` asks for more, or for one.
CRASHES, BROKERS, SEEDS = 15, 2, 3
# One run with violations takes long to end, and a few tell enough.
_ENOUGH = 5


def test_every_schedule_ends_as_it_should(place: Path, pytestconfig: pytest.Config) -> None:
    tally, began = Tally(), time.perf_counter()
    studio = Studio(place)
    for scene in _scenes(pytestconfig):
        with studio.scene(scene) as rehearsed:
            _play(rehearsed, pytestconfig, tally)
        print(f"{scene.name}: {tally}", flush=True)
        if len(tally.wrong) >= _ENOUGH:
            break
    _say(pytestconfig, f"\n{tally}")
    tally.record(time.perf_counter() - began)
    assert not tally.wrong, "\n" + "\n".join(map(str, tally.wrong))
    if not _is_narrowed(pytestconfig):
        assert len(tally.played) >= 1000


def _play(rehearsed: Rehearsed, config: pytest.Config, tally: Tally) -> None:
    for faults in _plans(rehearsed, config, tally):
        run = rehearsed.play(faults)
        tally.add(run)
        if run.wrong:
            _say(config, f"\n{run}")
        if len(tally.wrong) >= _ENOUGH:
            return


def _say(config: pytest.Config, text: str) -> None:
    """To whoever looks on, although all goes well."""
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(text, flush=True)


def _scenes(config: pytest.Config) -> list[Scene]:
    wanted = config.getoption("--scene")
    if wanted is None:
        return list(SCENES)
    patterns = wanted.split(",")
    for pattern in patterns:
        if not fnmatch.filter(BY_NAME, pattern):
            raise pytest.UsageError(f"no scene {pattern!r}: choose of {', '.join(BY_NAME)}")
    return [one for one in SCENES if any(fnmatch.fnmatch(one.name, text) for text in patterns)]


def _is_narrowed(config: pytest.Config) -> bool:
    return any(
        config.getoption(name) is not None for name in ("--scene", "--seed", "--seeds", "--step")
    )


def _plans(rehearsed: Rehearsed, config: pytest.Config, tally: Tally) -> Iterator[Faults]:
    """As the command line says; without a word, some of every kind, spread over the scene."""
    seed, seeds, step = (config.getoption(f"--{name}") for name in ("seed", "seeds", "step"))
    if seed is not None:
        yield Faults(f"seed:{seed}")
        return
    if step is not None and step != "all":
        yield Faults(step)
        return
    calm = rehearsed.play(CALM)
    tally.add(calm)
    if seeds is not None:
        yield from (Faults(f"seed:{number}") for number in range(seeds))
        return
    moments = [f"broker:{number}" for number in range(len(calm.trace))]
    crashes = points(calm.trace)
    every = step == "all"
    yield from map(Faults, crashes if every else _spread(crashes, CRASHES))
    yield from map(Faults, moments if every else _spread(moments, BROKERS))
    yield from (Faults(f"seed:{number}") for number in range(SEEDS))


def _spread(plans: list[str], count: int) -> list[str]:
    """So many of them, evenly; all if there are not more."""
    if len(plans) <= count:
        return plans
    return [plans[number * len(plans) // count] for number in range(count)]
