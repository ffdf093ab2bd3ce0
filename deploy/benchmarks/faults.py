"""`deploy/bench --faults`: how the cloud fares when things go wrong, measured part by part.

The crash simulation and the real faults are tests, which `deploy/test` runs; they append what they
measured to a JSON-lines file that CUMULET_FAULT_RECORDS names. The large cloud is measured here.
Parts that are not run keep their figures of the time before.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path

from cloud import shell
from deploy.benchmarks import fault_records, many_hosts
from deploy.benchmarks.errors import BenchmarkFailed
from deploy.benchmarks.fault_records import (
    VARIABLE,
    Fault,
    Joined,
    ManyHosts,
    Record,
    Simulation,
)
from deploy.state import CHECKOUT
from deploy.steps import Steps

# The real faults last minutes each.
_TEST_SECONDS = 4 * 3600.0


class Part(StrEnum):
    """What can be measured by itself."""

    SIMULATION = "simulation"
    REAL = "real"
    MANY = "many"


_KINDS: dict[Part, type[Record]] = {
    Part.SIMULATION: Simulation,
    Part.REAL: Fault,
    Part.MANY: ManyHosts,
}
# Arguments of deploy/test.
_TESTS = {
    Part.SIMULATION: ("-m", "faults", "tests/simulation"),
    Part.REAL: ("-m", "faults", "tests/e2e"),
}


def measure(parts: Collection[Part], records: Path, steps: Steps) -> Joined:
    """Run the parts, in the order of `Part`; joins their figures with what `records` holds already.

    Raises BenchmarkFailed if a test fails; what was measured until then is in `records`.
    """
    _forget(records, parts)
    for part in Part:
        if part not in parts:
            continue
        if part is Part.MANY:
            result = many_hosts.measure(steps)
            _append(records, fault_records.many_hosts(result.document(), result.verdicts()))
        else:
            with steps.step(f"Tests of the part {part}"):
                _test(part, records)
    return joined(records)


def joined(records: Path) -> Joined:
    """The figures of the runs that the file has records of; raises BenchmarkFailed."""
    if not records.exists():
        raise BenchmarkFailed(f"there is no {records}: run deploy/bench --faults, which writes it")
    return fault_records.join(fault_records.read(records.read_text().splitlines()))


def _test(part: Part, records: Path) -> None:
    log = records.with_name(f"faults-{part}.log")
    process = shell.spawn(
        [CHECKOUT / "deploy" / "test", *_TESTS[part]],
        log=log,
        env={**os.environ, VARIABLE: str(records)},
    )
    try:
        code = process.wait(timeout=_TEST_SECONDS)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if code:
        raise BenchmarkFailed(f"tests of the part {part} failed: see {log}")


def _forget(records: Path, parts: Collection[Part]) -> None:
    """Drop what is about to be measured anew."""
    if not records.exists():
        return
    kinds = tuple(_KINDS[part] for part in parts)
    kept = [
        record
        for record in fault_records.read(records.read_text().splitlines())
        if not isinstance(record, kinds)
    ]
    records.write_text("".join(map(fault_records.line, kept)))


def _append(records: Path, record: Record) -> None:
    with records.open("a") as file:
        file.write(fault_records.line(record))
