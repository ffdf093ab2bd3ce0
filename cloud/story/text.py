"""A story as people and as programs read it. Pure; values come from logs, so nothing is trusted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC

from cloud.story.moments import Moment, Story

# What a reader looks for first.
_FIRST = ("action_id", "vm", "task", "step", "duration", "error", "code", "reason")
_LONGEST = 200

Paint = Callable[[str], str]


def for_people(request_id: str, story: Story, emphasize: Paint = str) -> Iterator[str]:
    """One line each, times in seconds since the first; errors are marked and emphasized."""
    began = story.moments[0].at
    width = max(len(_plain(moment.place)) for moment in story.moments)
    yield f"Request {request_id}, from {began.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
    for moment in story.moments:
        seconds = (moment.at - began).total_seconds()
        mark = "!" if moment.is_error else " "
        facts = [f"{_plain(name)}={_value(value)}" for name, value in _ordered(moment)]
        line = f"{seconds:+10.3f}  {_plain(moment.place):{width}} {mark} " + "  ".join(
            [_plain(moment.text), *facts]
        )
        yield emphasize(line) if moment.is_error else line
    for gap in story.gaps:
        yield emphasize(f"Missing: {_plain(gap)}")


def for_programs(story: Story) -> Iterator[str]:
    """JSON lines: a moment each, then an object with `missing` for each part that is."""
    for moment in story.moments:
        facts = {
            "time": moment.at.astimezone(UTC).isoformat(),
            "source": moment.source,
            "host": moment.host,
            "event": moment.text,
            "error": moment.is_error,
            "fields": moment.fields,
        }
        yield json.dumps(facts, default=str)
    for gap in story.gaps:
        yield json.dumps({"missing": gap})


def _ordered(moment: Moment) -> list[tuple[str, object]]:
    """Fields worth a place, the important ones first."""
    rank = {name: number for number, name in enumerate(_FIRST)}
    told = [(name, value) for name, value in moment.fields.items() if value not in (None, "")]
    return sorted(told, key=lambda pair: rank.get(pair[0], len(_FIRST)))


def _value(value: object) -> str:
    """As one word; of a long text such as a traceback its end, which says what went wrong."""
    if not isinstance(value, str):
        value = json.dumps(value, default=str)
        return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…"
    value = value.strip().rpartition("\n")[2]
    value = value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…"
    if value.isprintable() and not any(char in ' "=' for char in value):
        return value
    return json.dumps(value, ensure_ascii=not value.isprintable())


def _plain(text: str) -> str:
    """Without anything that a terminal would act on."""
    return text if text.isprintable() else json.dumps(text)[1:-1]
