"""What a log line looks like, whoever writes it, and what never stands in one."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from cloud import agent, logs, logsearch, requestid
from cloud.logsearch import Line

Lines = Callable[[], list[dict[str, Any]]]

pytestmark = pytest.mark.trace


@pytest.fixture
def as_before() -> Iterator[None]:
    """A test may configure logging."""
    root = logging.getLogger()
    handlers, level, configured = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**configured)


@pytest.fixture
def lines(as_before: None, monkeypatch: pytest.MonkeyPatch) -> Lines:
    """What was written since the test began, as an agent would write it."""
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    logs.logging_config("json", "INFO", service="agent", host="h1")
    return lambda: [json.loads(line) for line in written.getvalue().splitlines()]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written_to(place: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    """A line of a request, of an agent whose environment says nothing of the format."""
    monkeypatch.delenv("CUMULET_LOG_FORMAT", raising=False)
    monkeypatch.setattr("sys.stderr", place)
    monkeypatch.setattr(agent, "config", lambda: SimpleNamespace(name="h1"))
    agent.start_logging("agent")
    with requestid.bound("r-1"):
        structlog.get_logger("ours").info("step", step="start")
    return place.getvalue().strip()


def test_what_a_service_writes_is_found_by_a_trace_if_nobody_said_how(
    as_before: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = written_to(io.StringIO(), monkeypatch)
    entry = {"MESSAGE": message, "_SYSTEMD_UNIT": "cumulet-agent.service"}
    assert [*logsearch.journal_lines(json.dumps(entry), "r-1")] == [Line("agent", message)]


def test_people_at_a_terminal_read_columns(
    as_before: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not written_to(Terminal(), monkeypatch).startswith("{")


def test_a_library_and_we_write_the_same_line(lines: Lines) -> None:
    with requestid.bound("r-1"), logs.bound(action_id=7, vm=3):
        structlog.get_logger("ours").info("step", step="start", duration=0.5)
        logging.getLogger("library").warning("socket %s", "closed")
    ours, theirs = lines()
    for line in (ours, theirs):
        assert {"request_id": "r-1", "action_id": 7, "vm": 3}.items() <= line.items()
        assert {"service": "agent", "host": "h1"}.items() <= line.items()
        assert line["time"].endswith("Z")
    assert (ours["event"], ours["level"], ours["duration"]) == ("step", "info", 0.5)
    assert (theirs["event"], theirs["level"]) == ("socket closed", "warning")


def test_known_fields_come_first_and_in_one_order(lines: Lines) -> None:
    with requestid.bound("r-1"):
        structlog.get_logger("ours").info("step", zebra=1, duration=0.5, vm=3)
    (line,) = lines()
    first = [name for name in line if name in logs.FIELDS]
    assert list(line)[: len(first)] == first == [n for n in logs.FIELDS if n in line]


def test_outside_of_a_request_there_is_no_id(lines: Lines) -> None:
    with requestid.bound("r-1"), logs.bound(vm=3):
        pass
    structlog.get_logger("ours").info("idle")
    assert not {"request_id", "vm"} & lines()[0].keys()


def test_what_celery_attaches_to_its_lines_stays_out(lines: Lines) -> None:
    extra = {"data": {"args": "user-data"}, "program": "nft", "code": 0}
    logging.getLogger("celery").error("Task failed", extra=extra)
    (line,) = lines()
    assert line["program"] == "nft"
    assert "user-data" not in json.dumps(line)


@pytest.mark.parametrize(
    "text",
    [
        "cannot reach amqp://host-h1:s3cret@192.0.2.2:5672/cumulet",
        "refused: Authorization: Bearer s3cret",
        "-----BEGIN OPENSSH PRIVATE KEY-----\ns3cret\n-----END OPENSSH PRIVATE KEY-----",
        "hash $2b$05$s3crets3crets3crets3cretuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu is odd",
        "hash $6$salt$s3crets3crets3cret is odd",
        "violates check\nDETAIL:  Failing row contains (1, web, #cloud-config s3cret).",
        "duplicate key\nDETAIL:  Key (digest)=(s3cret) already exists.",
    ],
)
def test_secrets_that_libraries_quote_are_blotted_out(lines: Lines, text: str) -> None:
    logging.getLogger("library").error(text)
    structlog.get_logger("ours").error("failed", reason=text)
    try:
        raise ValueError(text)
    except ValueError:
        structlog.get_logger("ours").exception("failed")
    assert len(lines()) == 3
    assert "s3cret" not in json.dumps(lines())


@pytest.mark.parametrize(
    "text", ["GET /v1/servers", "see https://cumulet.example/docs", "price $2", "Key (a) is odd"]
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert logs.without_secrets(text) == text
