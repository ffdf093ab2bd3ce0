"""`deploy/bench --faults many`: what a large cloud at rest costs, and what one mad host does."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from cloud import shell
from deploy import broker, control, postgres
from deploy.benchmarks import deployment
from deploy.benchmarks.errors import BenchmarkFailed
from deploy.benchmarks.fleet import stage
from deploy.benchmarks.fleet.hosts import Fleet, PlayedHost
from deploy.benchmarks.fleet.measure import Watcher
from deploy.benchmarks.fleet.stage import Stage
from deploy.benchmarks.fleet.trials import Creations, Reports, obeying
from deploy.benchmarks.statistics import Summary, summarise
from deploy.benchmarks.verdicts import Verdict, many_hosts
from deploy.state import CHECKOUT
from deploy.steps import Steps

HOSTS, SERVERS, OPEN_HOSTS = 500, 10_000, 4
SECONDS = 60.0
# By then every host has told everything once.
_SETTLE_SECONDS = 40.0
_TRIAL_SECONDS = 10.0
_FLOOD_RATE = 10_000.0
# How long the flood has been going on before it is measured.
_FLOOD_BEGUN_SECONDS = 5.0
_SWEEPS, _CHANGED = 10, 10
# Less than this of what hosts would say is not the load that is to be measured.
_PUNCTUAL = 0.97
_PROGRAMS = (control.WORKER, control.BEAT, control.WEB, postgres.NAME, broker.NAME)


@dataclass(frozen=True)
class Sweep:
    """One sweep, in the middle: milliseconds, statements."""

    milliseconds: float
    statements: float


@dataclass(frozen=True)
class Result:
    """`cores`: processor seconds a second, by program. `statements_per_second`: all that were sent
    to PostgreSQL, BEGIN and COMMIT among them; `often`: those that came most often, a second.
    Delays in seconds: until a report is in the inventory, until a server is made."""

    hosts: int
    servers: int
    seconds: float
    messages_per_second: float
    statements_per_second: float
    cores: dict[str, float]
    often: dict[str, float]
    sweep_at_rest: Sweep
    sweep_after_changes: Sweep
    reports: Summary
    creations: Summary
    flood_per_second: float
    reports_in_flood: Summary
    creations_in_flood: Summary

    @property
    def control_cores(self) -> float:
        return self.cores[control.WORKER] + self.cores[control.BEAT]

    def document(self) -> dict[str, Any]:
        return asdict(self)

    def verdicts(self) -> list[Verdict]:
        return many_hosts(
            self.control_cores,
            self.statements_per_second,
            self.reports_in_flood.median,
            self.creations_in_flood.median,
        )


def measure(steps: Steps, seconds: float = SECONDS) -> Result:
    """All of it, with services of its own, which are gone afterwards. Raises BenchmarkFailed."""
    with deployment.own_instance() as instance:
        scene = stage.set_up(instance, steps, hosts=HOSTS, vms=SERVERS, open_hosts=OPEN_HOSTS)
        hosts = [
            PlayedHost(host["name"], host["uuid"], host["vms"], host["networks"])
            for host in scene.inventory["hosts"]
        ]
        with Fleet(hosts, scene.url_of) as fleet, closing(Watcher(scene.cloud)) as watcher:
            return _observe(scene, fleet, watcher, steps, seconds)


def _observe(scene: Stage, fleet: Fleet, watcher: Watcher, steps: Steps, seconds: float) -> Result:
    fleet.play()
    with steps.step("Every host has told everything"):
        time.sleep(_SETTLE_SECONDS)
    with steps.step(f"{HOSTS} hosts with {SERVERS} servers at rest, {seconds:g} s"):
        sent = fleet.sent
        with watcher.spending(_PROGRAMS) as spent:
            time.sleep(seconds)
        messages = (fleet.sent - sent) / spent.seconds
    if messages < _PUNCTUAL * fleet.intended:
        raise BenchmarkFailed(
            f"the hosts were played too slowly, {messages:.0f} reports a second instead of"
            f" {fleet.intended:.0f}: this machine is too busy, try again when it is not"
        )
    trials = _Trials(scene, fleet, watcher)
    with steps.step("Reports and new servers, nothing else going on"):
        reports, creations = trials.take()
    with steps.step(f"The same, while one host sends {_FLOOD_RATE:g} reports a second"):
        (reports_in_flood, creations_in_flood), flood = trials.in_flood()
    with steps.step(f"{_SWEEPS} sweeps at rest, {_SWEEPS} after {_CHANGED} changes"):
        at_rest = _sweep(scene.run("sweeps", str(_SWEEPS), "0"))
        changed = _sweep(scene.run("sweeps", str(_SWEEPS), str(_CHANGED)))
    return Result(
        hosts=HOSTS,
        servers=SERVERS,
        seconds=spent.seconds,
        messages_per_second=messages,
        statements_per_second=spent.statements / spent.seconds,
        cores={name: used / spent.seconds for name, used in spent.processor.items()},
        often={text: calls / spent.seconds for calls, _, text in spent.often},
        sweep_at_rest=at_rest,
        sweep_after_changes=changed,
        reports=reports,
        creations=creations,
        flood_per_second=flood,
        reports_in_flood=reports_in_flood,
        creations_in_flood=creations_in_flood,
    )


class _Trials:
    """The mad host is the first, the one whose reports are timed the second."""

    def __init__(self, scene: Stage, fleet: Fleet, watcher: Watcher) -> None:
        self._scene = scene
        self._fleet = fleet
        self._reports = Reports(fleet, watcher, fleet.hosts[1])
        self._creations = Creations(
            httpx.Client(
                base_url=scene.instance.api_url,
                headers={"Authorization": f"Bearer {scene.inventory['token']}"},
                timeout=60,
            )
        )

    def take(self) -> tuple[Summary, Summary]:
        """The delays of reports, and of creations."""
        with ExitStack() as stack:
            for host in self._fleet.hosts[-OPEN_HOSTS:]:
                url = self._scene.url_of(host.name)
                stack.enter_context(obeying(self._fleet, host, url))
            kinds: list[Callable[[float], list[float]]] = [
                self._reports.take,
                self._creations.take,
            ]
            reports, creations = (summarise(take(_TRIAL_SECONDS)) for take in kinds)
        return reports, creations

    def in_flood(self) -> tuple[tuple[Summary, Summary], float]:
        """The same during a flood, and how many messages a second that was."""
        mad = self._fleet.hosts[0].name
        lasts = 2 * _TRIAL_SECONDS + 2 * _FLOOD_BEGUN_SECONDS
        argv = [sys.executable, "-m", "deploy.benchmarks.fleet.flood", self._scene.url_of(mad), mad]
        process = shell.spawn(
            [*argv, str(lasts), str(_FLOOD_RATE)],
            log=self._scene.instance.log / "flood.log",
            env={"PYTHONPATH": str(CHECKOUT)},
        )
        try:
            time.sleep(_FLOOD_BEGUN_SECONDS)
            delays = self.take()
            process.wait(timeout=lasts)
        finally:
            process.kill()
        sent = int((self._scene.instance.log / "flood.log").read_text().split()[-1])
        return delays, sent / lasts


def _sweep(measured: list[list[float]]) -> Sweep:
    return Sweep(
        summarise([milliseconds for milliseconds, _ in measured]).median,
        summarise([statements for _, statements in measured]).median,
    )
