"""What a session measured of reliability: for the table at its end, and `deploy/bench --faults`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from deploy.benchmarks import fault_records
from deploy.benchmarks.fault_records import VARIABLE, Fault, Record

_FAULTS: list[Fault] = []


def add(record: Record) -> None:
    """Append it to the file that CUMULET_FAULT_RECORDS names, if it does."""
    if isinstance(record, Fault):
        _FAULTS.append(record)
    if path := os.environ.get(VARIABLE):
        with Path(path).open("a") as file:
            file.write(fault_records.line(record))


def table() -> list[str]:
    """The lines of a table of all faults of the session; none if there was no fault."""
    if not _FAULTS:
        return []
    rows = [("fault", "recovery", "created", "deleted", "failed"), *map(_row, _FAULTS)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_line(row, widths) for row in rows]


def _row(one: Fault) -> tuple[str, ...]:
    return one.fault, *fault_records.cells(one)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = row
    return "  ".join(
        [first.ljust(widths[0])]
        + [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
    )
