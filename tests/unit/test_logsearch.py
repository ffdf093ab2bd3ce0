"""What a machine's logs say about one request."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest

from cloud import logsearch
from cloud.logsearch import Answer, Gap, Line

ID = "7d0c.1/a"


def line(event: str, request_id: str = ID) -> str:
    return json.dumps({"event": event, "request_id": request_id})


def found(directory: Path, request_id: str = ID) -> list[Line | Gap]:
    return list(logsearch.search_files(directory, request_id))


def events(parts: list[Line | Gap]) -> set[tuple[str, str]]:
    lines = [part for part in parts if isinstance(part, Line)]
    assert len(lines) == len(parts)
    return {(part.origin, json.loads(part.text)["event"]) for part in lines}


def test_every_log_below_the_directory_is_read_rotated_and_packed_ones_too(tmp_path: Path) -> None:
    deeper = tmp_path / "hosts" / "h1"
    deeper.mkdir(parents=True)
    (tmp_path / "web.log").write_text(line("a") + "\n")
    (tmp_path / "web.log.1").write_text(line("b") + "\n")
    (deeper / "agent-h1.log").write_text(line("c") + "\n")
    (deeper / "agent-h1.log.2.gz").write_bytes(gzip.compress(line("d").encode() + b"\n"))
    (tmp_path / "notes.txt").write_text(line("not a log") + "\n")
    assert events(found(tmp_path)) == {
        ("web", "a"),
        ("web", "b"),
        ("agent-h1", "c"),
        ("agent-h1", "d"),
    }


def test_only_whole_lines_of_exactly_this_request_count(tmp_path: Path) -> None:
    lines = [
        line("another", ID + "b"),
        line("a dot is a dot", "7d0cx1/a"),
        f"Traceback that mentions {ID}",
        json.dumps([ID]),
        json.dumps({"event": f"about {ID}", "request_id": None}),
        line("this one"),
        line("torn")[:-2],
    ]
    (tmp_path / "web.log").write_text("\n".join(lines))
    assert events(found(tmp_path)) == {("web", "this one")}


def test_bytes_that_are_no_text_harm_only_their_own_line(tmp_path: Path) -> None:
    (tmp_path / "web.log").write_bytes(b"\xff\x00" + ID.encode() + b"\n" + line("a").encode())
    assert events(found(tmp_path)) == {("web", "a")}


def test_what_cannot_be_read_is_said_and_the_rest_is_found(tmp_path: Path) -> None:
    packed = gzip.compress(line("lost").encode() * 1000)
    (tmp_path / "a.log.1.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "b.log").write_text(line("kept"))
    gap, kept = found(tmp_path)
    assert isinstance(gap, Gap)
    assert "a.log.1.gz" in gap.reason
    assert kept == Line("b", line("kept"))


def test_a_mistyped_directory_is_said(tmp_path: Path) -> None:
    (gap,) = found(tmp_path / "nowhere")
    assert isinstance(gap, Gap)
    assert "nowhere cannot be read (No such file or directory)" in gap.reason


def test_the_directories_come_from_the_environment() -> None:
    found_in = logsearch.directories({"CUMULET_LOG_PATHS": "/var/log/a::/var/log/b"})
    assert found_in == [Path("/var/log/a"), Path("/var/log/b")]
    assert logsearch.directories({}) == []


def test_an_answer_holds_so_many_lines_and_says_that_there_are_more() -> None:
    short = [Line("web", line("a"))] * (logsearch.MAX_LINES + 1)
    assert len(logsearch.bounded(short[1:]).lines) == logsearch.MAX_LINES
    assert not logsearch.bounded(short[1:]).gaps
    answer = logsearch.bounded(short)
    assert len(answer.lines) == logsearch.MAX_LINES
    assert len(answer.gaps) == 1


def test_an_answer_holds_so_many_bytes() -> None:
    long = [Line("web", "x" * (logsearch.MAX_BYTES // 3))] * 4
    answer = logsearch.bounded(long)
    assert len(answer.lines) == 3
    assert answer.gaps == [Gap("only 3 of its lines are here, there are more")]


def test_a_search_that_takes_too_long_ends_with_what_it_found(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(line("found"))
    (tmp_path / "b.log").write_text(line("not reached"))
    answer = logsearch.bounded(logsearch.search_files(tmp_path, ID, time.monotonic() - 1))
    assert [part.origin for part in answer.lines] == ["a"]
    assert "ended after 4 s" in answer.gaps[0].reason


@pytest.mark.parametrize("request_id", ["", "a b", "$(id)", "x" * 129, "a\n"])
def test_a_host_searches_for_nothing_that_is_no_request_id(request_id: str) -> None:
    assert logsearch.answer(request_id) == Answer([], [Gap("this is no request id")])


def test_the_journal_is_asked_for_the_literal_id_in_the_clouds_units() -> None:
    assert logsearch.journal_argv("a.b+c") == [
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=json",
        "--output-fields=MESSAGE,_SYSTEMD_UNIT",
        "--unit=cumulet-*",
        "--lines=2000",
        "--case-sensitive=yes",
        r"--grep=\Qa.b+c\E",
    ]


def test_a_journal_entry_belongs_to_its_unit() -> None:
    output = "\n".join(
        json.dumps({"_SYSTEMD_UNIT": "cumulet-agent.service", "MESSAGE": message})
        for message in (line("a"), line("another", ID + "b"), f"plain {ID}", [1, 2], None)
    )
    assert list(logsearch.journal_lines(output + "\n{", ID)) == [Line("agent", line("a"))]
