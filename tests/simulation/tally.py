"""Counts schedules as they are played: one line for people, one for `deploy/bench --faults`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation.runs import Run

RECORDS = "CUMULET_FAULT_RECORDS"


@dataclass
class Tally:
    """A schedule is one complete run of one scene with one plan of faults, none counted twice."""

    played: set[tuple[str, str]] = field(default_factory=set)
    kinds: dict[str, int] = field(default_factory=dict)
    wrong: list[Run] = field(default_factory=list)
    scenes: set[str] = field(default_factory=set)
    longest: float = 0.0

    def add(self, run: Run) -> None:
        schedule = run.scene, run.faults
        if schedule in self.played:
            return
        self.played.add(schedule)
        self.scenes.add(run.scene)
        kind = run.faults.partition(":")[0]
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        self.longest = max(self.longest, run.settled)
        if run.wrong:
            self.wrong.append(run)

    def __str__(self) -> str:
        kinds = self.kinds
        return (
            f"{len(self.played)} schedules of {len(self.scenes)} scenes:"
            f" {kinds.get('kill', 0)} crash points, {kinds.get('broker', 0)} moments without a"
            f" broker, {kinds.get('seed', 0)} seeds, {kinds.get('none', 0)} without faults;"
            f" {len(self.wrong)} with violations; the slowest came to rest after"
            f" {self.longest:.0f} s of virtual time"
        )

    def record(self, seconds: float) -> None:
        """Append what was done to the file that the benchmark names, if it does."""
        path = os.environ.get(RECORDS)
        if not path:
            return
        line = {
            "kind": "simulation",
            "schedules": len(self.played),
            "seeds": self.kinds.get("seed", 0),
            "crash_points": self.kinds.get("kill", 0),
            "violations": len(self.wrong),
            "seconds": round(seconds, 1),
        }
        with Path(path).open("a") as file:
            file.write(json.dumps(line) + "\n")
