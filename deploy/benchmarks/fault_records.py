"""The figures of reliability: records of runs, joined, and as tables for people. Pure.

Tests append records to a JSON-lines file, see `deploy/bench --faults`. Of one thing that was
measured several times, the last time counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from deploy.benchmarks.errors import BenchmarkFailed
from deploy.benchmarks.verdicts import Verdict

FORMAT_VERSION: Final = 1
# Names the JSON-lines file to which tests append what they measured.
VARIABLE: Final = "CUMULET_FAULT_RECORDS"

Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]


class Simulation(Struct, frozen=True, tag_field="kind", tag="simulation"):
    """A part of the crash simulation; `violations`: ends that did not hold."""

    schedules: Count
    seeds: Count
    crash_points: Count
    violations: Count
    seconds: Seconds


class Load(Struct, frozen=True):
    """What was asked for while a fault lasted, and what of that failed."""

    created: Count
    deleted: Count
    failed: Count


class Fault(Struct, frozen=True, tag_field="kind", tag="fault"):
    """A real fault: from its end until all was in order and new work went.

    `load` is None where nothing was asked for meanwhile: a host without control and broker, say.
    """

    fault: str
    recovery_seconds: Seconds
    load: Load | None = None


class Target(Struct, frozen=True):
    target: str
    value: float
    limit: float
    unit: str
    met: bool


class ManyHosts(Struct, frozen=True, tag_field="kind", tag="many_hosts"):
    """A large cloud at rest: what was measured, see `many_hosts.Result`, against what is wanted."""

    figures: dict[str, Any]
    targets: tuple[Target, ...]


Record = Simulation | Fault | ManyHosts


@dataclass(frozen=True)
class Joined:
    """All records of a kind as one; None: there are none."""

    simulation: Simulation | None
    faults: Sequence[Fault]
    many_hosts: ManyHosts | None


def many_hosts(figures: dict[str, Any], verdicts: Iterable[Verdict]) -> ManyHosts:
    targets = (Target(one.target, one.value, one.limit, one.unit, one.met) for one in verdicts)
    return ManyHosts(figures, tuple(targets))


def read(lines: Iterable[str]) -> list[Record]:
    """The records of a JSON-lines file; raises BenchmarkFailed with the number of a bad line."""
    found: list[Record] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(msgspec.json.decode(line, type=Record))
        except msgspec.MsgspecError as error:
            raise BenchmarkFailed(
                f"line {number} of the records is none ({error}): remove it, or run that part again"
            ) from error
    return found


def line(record: Record) -> str:
    return msgspec.json.encode(record).decode() + "\n"


def join(records: Iterable[Record]) -> Joined:
    """Parts of the simulation add up; of a fault and of the large cloud, the last one counts."""
    simulations: list[Simulation] = []
    faults: dict[str, Fault] = {}
    large = None
    for record in records:
        match record:
            case Simulation():
                simulations.append(record)
            case Fault():
                faults[record.fault] = record
            case ManyHosts():
                large = record
    return Joined(_sum(simulations), list(faults.values()), large)


def document(joined: Joined, machine: dict[str, str]) -> dict[str, Any]:
    """What the JSON file holds; seconds, and what the names say."""
    parts = {
        "simulation": joined.simulation,
        "faults": joined.faults,
        "many_hosts": joined.many_hosts,
    }
    content: dict[str, Any] = json.loads(msgspec.json.encode(parts))
    return {"version": FORMAT_VERSION, "machine": machine, **content}


def markdown(joined: Joined) -> str:
    """Tables for the README's reliability section, of what was measured."""
    tables = []
    if joined.simulation:
        tables.append(_simulation_table(joined.simulation))
    if joined.faults:
        tables.append(_fault_table(joined.faults))
    if joined.many_hosts:
        tables.append(_target_table(joined.many_hosts))
    return "\n\n".join(tables)


def cells(fault: Fault) -> tuple[str, ...]:
    """What tables tell of it behind its name: the recovery, and created, deleted, failed."""
    load = fault.load
    counts = (load.created, load.deleted, load.failed) if load else ("-", "-", "-")
    return f"{fault.recovery_seconds:.1f} s", *map(str, counts)


def _sum(parts: Sequence[Simulation]) -> Simulation | None:
    if not parts:
        return None
    return Simulation(
        **{name: sum(getattr(one, name) for one in parts) for name in Simulation.__struct_fields__}
    )


def _simulation_table(simulation: Simulation) -> str:
    names = ("schedules", "seeds", "crash_points", "violations")
    head = [*(name.replace("_", " ") for name in names), "seconds"]
    row = [*(f"{getattr(simulation, name):,}" for name in names), f"{simulation.seconds:.0f}"]
    return _table(head, [row])


def _fault_table(faults: Sequence[Fault]) -> str:
    head = ["fault", "recovered after", "created", "deleted", "failed"]
    return _table(head, [[one.fault, *cells(one)] for one in faults])


def _target_table(large: ManyHosts) -> str:
    head = [f"{large.figures['hosts']:,} hosts, {large.figures['servers']:,} servers"]
    rows = [
        [
            one.target,
            f"{one.value:.2f} {one.unit}".strip(),
            f"{one.limit:g} {one.unit}".strip(),
            "met" if one.met else "**missed**",
        ]
        for one in large.targets
    ]
    return _table([*head, "measured", "at most", ""], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
