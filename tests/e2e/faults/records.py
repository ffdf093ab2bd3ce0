"""What each fault cost: for the table at the session's end, and for `deploy/bench --faults`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

# Names a file that gets one JSON object a line, for each fault test that passed.
VARIABLE = "CUMULET_FAULT_RECORDS"


@dataclass(frozen=True)
class Record:
    """`recovery_seconds`: from the end of the fault until all was in order and new work went."""

    fault: str
    recovery_seconds: float
    load: dict[str, int]
    kind: str = "fault"


_RECORDS: list[Record] = []


def add(record: Record) -> None:
    _RECORDS.append(record)
    if path := os.environ.get(VARIABLE):
        with Path(path).open("a") as file:
            file.write(json.dumps(asdict(record)) + "\n")


def table() -> list[str]:
    """The lines of a table of all faults of the session; none if there was no fault."""
    if not _RECORDS:
        return []
    width = max(len(record.fault) for record in _RECORDS)
    head = f"{'fault':{width}}  recovery  created  deleted  failed"
    return [head] + [
        f"{record.fault:{width}}  {record.recovery_seconds:6.1f} s"
        f"  {record.load['created']:7}  {record.load['deleted']:7}  {record.load['failed']:6}"
        for record in _RECORDS
    ]
