"""What tests and the benchmark recorded of reliability, joined and told."""

from __future__ import annotations

import json

import pytest

from deploy.benchmarks import fault_records as records
from deploy.benchmarks.errors import BenchmarkFailed
from deploy.benchmarks.fault_records import Fault, Load, Simulation
from deploy.benchmarks.verdicts import many_hosts

SIMULATED = (
    '{"kind": "simulation", "schedules": 900, "seeds": 30, "crash_points": 410,'
    ' "violations": 0, "seconds": 12.5}'
)
KILLED = (
    '{"kind": "fault", "fault": "kill -9 of the agent", "recovery_seconds": 4.25,'
    ' "load": {"created": 15, "deleted": 14, "failed": 0}}'
)
LARGE = records.many_hosts({"hosts": 500, "servers": 10000}, many_hosts(0.25, 231.0, 0.02, 0.3))


def joined(*lines: str) -> records.Joined:
    return records.join(records.read(lines))


def test_what_tests_append_is_read() -> None:
    assert records.read([SIMULATED, "", KILLED]) == [
        Simulation(schedules=900, seeds=30, crash_points=410, violations=0, seconds=12.5),
        Fault("kill -9 of the agent", 4.25, Load(created=15, deleted=14, failed=0)),
    ]


def test_a_fault_that_nobody_worked_beside_has_no_load() -> None:
    rebooted = Fault("host reboot", 7.5)
    assert records.read([records.line(rebooted)]) == [rebooted]
    assert "| host reboot | 7.5 s | - | - | - |" in records.markdown(records.join([rebooted]))


def test_what_was_measured_here_is_written_and_read_alike() -> None:
    assert records.read([records.line(LARGE)]) == [LARGE]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        '{"kind": "weather"}',
        '{"kind": "fault", "fault": "flood"}',
        KILLED.replace("4.25", "-1"),
    ],
)
def test_a_record_that_is_none_is_named_by_its_line(line: str) -> None:
    with pytest.raises(BenchmarkFailed, match="line 2"):
        records.read([KILLED, line])


def test_parts_of_the_simulation_add_up_and_violations_are_not_lost() -> None:
    other = SIMULATED.replace('"violations": 0', '"violations": 2')
    assert joined(SIMULATED, other).simulation == Simulation(
        schedules=1800, seeds=60, crash_points=820, violations=2, seconds=25.0
    )


def test_of_a_fault_that_was_tried_twice_the_last_time_counts() -> None:
    again = KILLED.replace("4.25", "9.5")
    elsewhere = KILLED.replace("the agent", "beat")
    faults = joined(KILLED, elsewhere, again).faults
    assert [(one.fault, one.recovery_seconds) for one in faults] == [
        ("kill -9 of the agent", 9.5),
        ("kill -9 of beat", 4.25),
    ]


def test_the_document_says_what_was_not_measured() -> None:
    document = records.document(joined(KILLED), {"cores": "2"})
    assert document["simulation"] is None
    assert document["many_hosts"] is None
    assert document["faults"][0]["load"] == {"created": 15, "deleted": 14, "failed": 0}
    assert json.loads(json.dumps(document)) == document


def test_the_tables_are_markdown() -> None:
    text = records.markdown(records.join([*records.read([SIMULATED, KILLED]), LARGE]))
    assert text.split("\n\n") == [
        "| schedules | seeds | crash points | violations | seconds |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| 900 | 30 | 410 | 0 | 12 |",
        "| fault | recovered after | created | deleted | failed |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| kill -9 of the agent | 4.2 s | 15 | 14 | 0 |",
        "| 500 hosts, 10,000 servers | measured | at most |  |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| processor of worker and beat, large cloud | 0.25 cores | 1 cores | met |\n"
        "| statements a second, large cloud | 231.00 | 200 | **missed** |\n"
        "| a report of another host in a flood | 0.02 s | 1 s | met |\n"
        "| a new server in a flood | 0.30 s | 2 s | met |",
    ]


def test_there_is_no_table_of_what_was_not_measured() -> None:
    assert records.markdown(joined(KILLED)).count("---:") == 4
