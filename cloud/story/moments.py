"""A story's parts: what happened when and where. Pure; `cloud.story.sources` finds them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cloud.logsearch import Gap, Line, facts_of

# Services that run on every host; all others belong to the control plane.
_OF_HOSTS = ("agent", "monitor", "fetch")
_BAD_LEVELS = ("error", "critical")
# Said elsewhere, the same on every line, or of no use to a reader.
_IMPLIED = ("time", "level", "event", "request_id", "service", "logger")


@dataclass(frozen=True)
class Moment:
    """Something that happened. `source`: a service's name, or "row" for what the database says.

    `host`: where it happened, "" for the control plane.
    """

    at: datetime
    source: str
    text: str
    host: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)
    is_error: bool = False

    @property
    def place(self) -> str:
        return f"{self.host}/{self.source}" if self.host else self.source


@dataclass(frozen=True)
class Story:
    """Everything known of a request, in order, and what of it could not be had."""

    moments: list[Moment]
    gaps: list[str]


def compose(found: Iterable[Moment | Gap]) -> Story:
    """Order what the sources found by time; what happened at one time keeps their order.

    A line that two sources know appears once: the hosts of a lab share a directory of logs.
    """
    moments: dict[str, Moment] = {}
    gaps: list[str] = []
    for part in found:
        if isinstance(part, Gap):
            gaps.append(part.reason)
        else:
            moments.setdefault(_identity(part), part)
    return Story(sorted(moments.values(), key=lambda moment: moment.at), gaps)


def from_line(line: Line, answered_by: str = "") -> Moment | None:
    """What a log line tells; None if it does not even say when.

    `answered_by`: the host whose logs had it. Where that host keeps the logs of others too, the
    file's name says whose it is.
    """
    fields = facts_of(line.text)
    try:
        at = datetime.fromisoformat(str(fields.get("time")))
    except ValueError:
        return None
    name, _, owner = line.origin.partition("-")
    service = str(fields.get("service") or name)
    is_of_host = service in _OF_HOSTS
    host = str(owner or fields.get("host") or answered_by) if is_of_host else ""
    implied = (*_IMPLIED, "host") if is_of_host else _IMPLIED
    return Moment(
        at=at if at.tzinfo else at.replace(tzinfo=UTC),
        source=service,
        host=host,
        text=str(fields.get("event", "")),
        fields={name: value for name, value in fields.items() if name not in implied},
        is_error=fields.get("level") in _BAD_LEVELS,
    )


def _identity(moment: Moment) -> str:
    facts = [moment.at.isoformat(), moment.source, moment.text, moment.fields]
    return json.dumps(facts, sort_keys=True, default=str)
