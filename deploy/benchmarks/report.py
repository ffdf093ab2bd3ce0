"""The result of a run: tables for people, JSON for everything else. Pure but for the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.benchmarks import verdicts
from deploy.benchmarks.guest import Sample
from deploy.benchmarks.statistics import Summary, summarise
from deploy.benchmarks.verdicts import Timing, Verdict

FORMAT_VERSION = 1
_QUIET = 0.05  # percent of a core; below it a program has no line of its own


@dataclass(frozen=True)
class Result:
    """`samples` by contender, in the order of the rounds; see footprint.py for the rest."""

    machine: Mapping[str, str]
    samples: Mapping[str, Sequence[Sample]]
    host_mib: Mapping[str, float]
    idle_percent: Mapping[str, float]
    verdicts: Sequence[Verdict]


def timing(samples: Sequence[Sample]) -> Timing:
    return Timing(
        process_up=summarise([sample.process_up for sample in samples]),
        userspace_up=summarise([sample.userspace_up for sample in samples]),
    )


def document(result: Result) -> dict[str, Any]:
    """What the JSON file holds; times in seconds, memory in MiB."""
    return {
        "version": FORMAT_VERSION,
        "machine": dict(result.machine),
        "contenders": {
            name: {**asdict(timing(samples)), "samples": [asdict(sample) for sample in samples]}
            for name, samples in result.samples.items()
        },
        "host_memory_mib": dict(result.host_mib),
        "idle_percent_of_a_core": dict(result.idle_percent),
        "verdicts": verdict_documents(result.verdicts),
    }


def show(result: Result, console: Console) -> None:
    for table in (_speed(result), _idle(result), verdict_table(result.verdicts)):
        console.print(table)
        console.print()


def comparison(
    machine: Mapping[str, str], samples: Mapping[str, Sequence[float]]
) -> tuple[dict[str, Any], Table]:
    """Two revisions, the first against the second: JSON, and a table for people. Seconds."""
    (here, ours), (there, theirs) = samples.items()
    verdict = verdicts.overhead(summarise(ours), summarise(theirs))
    document = {
        "version": FORMAT_VERSION,
        "machine": dict(machine),
        "samples": {name: list(seconds) for name, seconds in samples.items()},
        "verdict": {**asdict(verdict), "met": verdict.met},
    }
    table = Table(title=f"POST to running, seconds: median (middle half), {len(ours)} rounds")
    for name in (here, there, "ratio", "at most"):
        table.add_column(name, justify="right")
    word = "[green]met[/green]" if verdict.met else "[bold red]missed[/bold red]"
    table.add_row(
        _seconds(summarise(ours)),
        _seconds(summarise(theirs)),
        f"{verdict.value:.3f} {word}",
        f"{verdict.limit:.2f}",
    )
    return document, table


def _speed(result: Result) -> Table:
    rounds = max(len(samples) for samples in result.samples.values())
    table = Table(title=f"One guest, seconds: median (middle half), {rounds} rounds in turns")
    table.add_column("")
    table.add_column("process up", justify="right")
    table.add_column("userspace up", justify="right")
    for name, samples in result.samples.items():
        measured = timing(samples)
        table.add_row(name, _seconds(measured.process_up), _seconds(measured.userspace_up))
        answered = [sample.answered for sample in samples if sample.answered is not None]
        if answered:
            table.caption = f"POST /v1/servers was answered after {_seconds(summarise(answered))} s"
    return table


def _idle(result: Result) -> Table:
    table = Table(title="While nothing happens")
    table.add_column("program")
    table.add_column("processor, % of a core", justify="right")
    table.add_column("memory, MiB", justify="right")
    ranked = sorted(result.idle_percent.items(), key=lambda item: -item[1])
    for name, percent in ranked:
        if percent >= _QUIET:
            table.add_row(name, f"{percent:.2f}", "")
    rest = sum(percent for _, percent in ranked if percent < _QUIET)
    table.add_row("all others", f"{rest:.2f}", "", end_section=True)
    for name, mib in result.host_mib.items():
        table.add_row(f"agent and monitor of {name}", "", f"{mib:.0f}")
    return table


def verdict_documents(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    return [{**asdict(verdict), "met": verdict.met} for verdict in verdicts]


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(title="Targets")
    for column in ("", "measured", "wanted", "verdict"):
        table.add_column(column, justify="right" if column in ("measured", "wanted") else "left")
    for verdict in verdicts:
        word = "[green]met[/green]" if verdict.met else "[bold red]missed[/bold red]"
        measured, limit = (f"{n:.2f} {verdict.unit}" for n in (verdict.value, verdict.limit))
        bound = "at least" if verdict.least else "at most"
        table.add_row(verdict.target, measured, f"{bound} {limit}", word)
    return table


def _seconds(summary: Summary) -> str:
    return f"{summary.median:.3f} ({summary.low:.3f}-{summary.high:.3f})"
