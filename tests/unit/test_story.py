"""The story of a request: who said what, in which order, and how it is shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cloud.logsearch import Gap, Line
from cloud.story import text
from cloud.story.moments import Moment, Story, compose, from_line

START = datetime(2026, 11, 25, 10, 20, 54, 123456, UTC)


def line(origin: str, **fields: Any) -> Line:
    facts = {"time": "2026-11-25T10:20:54.123456Z", "level": "info", "request_id": "a", **fields}
    return Line(origin, json.dumps(facts))


def moment(seconds: float = 0, **values: Any) -> Moment:
    values = {"source": "web", "text": "request", **values}
    return Moment(START + timedelta(seconds=seconds), **values)


@pytest.mark.parametrize(
    ("said", "answered_by", "place"),
    [
        pytest.param(line("web"), "", "web", id="a file of control"),
        pytest.param(line("web"), "h1", "web", id="control and host on one machine"),
        pytest.param(line("agent-h2"), "h1", "h2/agent", id="a file of another lab host"),
        pytest.param(line("monitor"), "h3", "h3/monitor", id="a unit of a host"),
        pytest.param(line("agent", host="h4"), "", "h4/agent", id="a host that names itself"),
        pytest.param(line("out", service="web"), "", "web", id="a service that names itself"),
    ],
)
def test_a_line_tells_where_it_was_logged(said: Line, answered_by: str, place: str) -> None:
    told = from_line(said, answered_by)
    assert told is not None
    assert told.place == place


def test_what_a_line_is_about_stays_what_it_is_about() -> None:
    told = from_line(line("control", event="report", host="h1", vm=3, logger="vms.reports"))
    assert told == moment(source="control", text="report", fields={"host": "h1", "vm": 3})


@pytest.mark.parametrize(
    "broken", ["", "{", "[]", "{}", '{"time": 5}', '{"time": "yesterday"}', '{"time": null}']
)
def test_a_line_that_does_not_say_when_is_left_out(broken: str) -> None:
    assert from_line(Line("web", broken), "h1") is None


def test_moments_are_told_by_time_and_at_one_time_as_they_came() -> None:
    late, first, second = moment(2), moment(1, text="first"), moment(1, text="second")
    assert compose([late, first, second]).moments == [first, second, late]


def test_zones_do_not_disturb_the_order() -> None:
    early = from_line(line("web", time="2026-11-25T11:20:54+01:00", event="early"))
    late = from_line(line("web", time="2026-11-25T10:20:55", event="late"))
    assert early
    assert late
    assert [told.text for told in compose([late, early]).moments] == ["early", "late"]


def test_a_line_that_several_hosts_can_read_appears_once() -> None:
    said = line("agent-h1", event="step", vm=3)
    lines = [from_line(said), from_line(said, "h1"), from_line(said, "h2")]
    assert len(compose(told for told in lines if told).moments) == 1


def test_a_part_that_is_missing_is_told() -> None:
    assert compose([Gap("h3 did not answer"), moment()]) == Story([moment()], ["h3 did not answer"])


def test_people_see_one_line_each_from_the_first_moment_on() -> None:
    story = Story(
        [
            moment(fields={"path": "/v1/servers", "status": 201}),
            moment(
                0.0123, source="agent", host="h1", text="step", fields={"step": "boot", "vm": 3}
            ),
            moment(1.5, source="row", text="ended", fields={"reason": "no room"}, is_error=True),
        ],
        ["h3 did not answer: its part is missing"],
    )
    assert list(text.for_people("abc", story, lambda shown: f"<{shown}>")) == [
        "Request abc, from 2026-11-25 10:20:54.123456 UTC",
        "    +0.000  web        request  path=/v1/servers  status=201",
        "    +0.012  h1/agent   step  vm=3  step=boot",
        '<    +1.500  row      ! ended  reason="no room">',
        "<Missing: h3 did not answer: its part is missing>",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ("größer als", '"größer als"'),
        ("\x1b[2J", r'"\u001b[2J"'),
        ("Traceback\n  File x\nValueError: no\n", '"ValueError: no"'),
        ({"a": 1}, '{"a": 1}'),
        (True, "true"),
        ("x" * 300, "x" * 200 + "…"),
    ],
)
def test_a_value_is_one_short_word_that_no_terminal_acts_on(value: object, shown: str) -> None:
    (_, only) = text.for_people("abc", Story([moment(fields={"key": value})], []))
    assert only.endswith(f"request  key={shown}")


def test_an_event_cannot_drive_the_terminal_either() -> None:
    (_, only) = text.for_people("abc", Story([moment(text="\x1b[31mred\n")], []))
    assert only.endswith(r"\u001b[31mred\n")


def test_programs_read_everything_as_json() -> None:
    story = Story([moment(fields={"at": START})], ["h3 did not answer"])
    assert [json.loads(told) for told in text.for_programs(story)] == [
        {
            "time": "2026-11-25T10:20:54.123456+00:00",
            "source": "web",
            "host": "",
            "event": "request",
            "error": False,
            "fields": {"at": "2026-11-25 10:20:54.123456+00:00"},
        },
        {"missing": "h3 did not answer"},
    ]
