"""deploy.benchmarks.report: tables and JSON say what was measured, and no more."""

from __future__ import annotations

import io
import json

from rich.console import Console

from deploy.benchmarks.guest import Sample
from deploy.benchmarks.report import Result, document, show
from deploy.benchmarks.verdicts import Verdict

RESULT = Result(
    machine={"cores": "2"},
    samples={
        "cumulet": [Sample(0.2, 2.0, answered=0.05), Sample(0.4, 2.2, answered=0.07)],
        "shell loop": [Sample(0.1, 1.9), Sample(0.1, 2.1)],
    },
    host_mib={"h1": 81.4},
    idle_percent={"web": 0.21, "rabbitmq": 1.4, "beat": 0.01, "proxy": 0.02},
    verdicts=[
        Verdict("process up against the shell loop", 3.0, 3.0, "x"),
        Verdict("agent and monitor of a host", 130.0, 120.0, "MiB"),
    ],
)


def shown() -> str:
    text = io.StringIO()
    show(RESULT, Console(file=text, width=120))
    return text.getvalue()


def line(text: str, start: str) -> str:
    return next(row for row in text.splitlines() if row.strip("│ ").startswith(start))


def test_the_document_is_json_with_every_sample() -> None:
    read = json.loads(json.dumps(document(RESULT)))
    cumulet = read["contenders"]["cumulet"]
    assert [sample["process_up"] for sample in cumulet["samples"]] == [0.2, 0.4]
    assert round(cumulet["process_up"]["median"], 6) == 0.3
    assert read["host_memory_mib"] == {"h1": 81.4}


def test_the_document_says_which_targets_were_met() -> None:
    verdicts = document(RESULT)["verdicts"]
    assert [(verdict["target"], verdict["met"]) for verdict in verdicts] == [
        ("process up against the shell loop", True),
        ("agent and monitor of a host", False),
    ]


def test_the_table_shows_median_and_spread() -> None:
    assert "0.300 (0.250-0.350)" in line(shown(), "cumulet")


def test_the_table_tells_how_soon_the_api_answered() -> None:
    assert "answered after 0.060 (0.055-0.065) s" in shown()


def test_the_table_calls_a_missed_target_missed() -> None:
    text = shown()
    assert "met" in line(text, "process up against")
    assert "missed" in line(text, "agent and monitor of a host  ")


def test_programs_that_use_next_to_nothing_share_a_line() -> None:
    text = shown()
    assert "1.40" in line(text, "rabbitmq")
    assert "0.03" in line(text, "all others")
    assert "beat" not in text
