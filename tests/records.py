"""What a session measured of reliability: for the table at its end, and `deploy/bench --faults`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from deploy.benchmarks import fault_records
from deploy.benchmarks.fault_records import VARIABLE, Fault, Record

# Of what a lane's process hands over to the whole run.
NAME = "records"
_records: list[Record] = []


def add(record: Record) -> None:
    """Keep it, and append it to the file that CUMULET_FAULT_RECORDS names, if it does."""
    _records.append(record)
    if path := os.environ.get(VARIABLE):
        with Path(path).open("a") as file:
            file.write(fault_records.line(record))


def lines() -> list[str]:
    """All of this process, for another one to take."""
    return [fault_records.line(record) for record in _records]


def take(lines: Iterable[str]) -> None:
    """What another process has kept."""
    _records.extend(fault_records.read(lines))


def table() -> list[str]:
    """What people are told at the end of a run; nothing if nothing was measured."""
    joined = fault_records.join(_records)
    told = []
    if simulated := joined.simulation:
        told.append(
            f"{simulated.schedules} schedules, {simulated.crash_points} crash points and"
            f" {simulated.seeds} seeds among them: {simulated.violations} with violations"
        )
    if joined.faults:
        rows = [("fault", "recovery", "created", "deleted", "failed"), *map(_row, joined.faults)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        told += [_line(row, widths) for row in rows]
    return told


def _row(one: Fault) -> tuple[str, ...]:
    return one.fault, *fault_records.cells(one)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = row
    return "  ".join(
        [first.ljust(widths[0])]
        + [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
    )
