"""Drift as lines of text: for people, and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from django.utils import timezone

from cloud.admin.display import lasted
from cloud.drift import Drift, Survey
from vms.drift.treatment import Verb
from vms.drift.views import DriftSerializer

_HEADERS = ("HOST", "SIDE", "KIND", "NAME", "AGE", "WOULD BE DONE")
_WORDS = {
    Verb.SEND_SERVER: "repair: its server's document is sent again",
    Verb.SEND_NETWORK: "repair: its network's document is sent again",
    Verb.REMOVE_SERVER: "removal",
    Verb.REMOVE_NETWORK: "removal",
    Verb.REMOVE_STRAY: "removal",
    Verb.QUARANTINE: "quarantine",
    Verb.NOTHING: "nothing",
}


def for_people(rows: Sequence[Drift]) -> Iterator[str]:
    if not rows:
        yield "No drift: hosts have just what the inventory says."
        return
    cells = [_HEADERS, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(padded).rstrip()


def for_programs(rows: Sequence[Drift]) -> Iterator[str]:
    """One object a line, as in the API."""
    for row in rows:
        yield json.dumps(DriftSerializer(row).data)


def limits(survey: Survey) -> Iterator[str]:
    """What the last look of a host says nothing about."""
    if survey.unseen:
        yield f"{survey.host} could not look at: {', '.join(survey.unseen)}; see its agent's log"
    for kind, count in survey.cut.items():
        yield f"{survey.host} left out {count} of kind {kind}: too many to tell"
    if survey.left_out:
        yield f"{survey.host} has {survey.left_out} differences more than are kept"


def words_of(row: Drift) -> str:
    """What would be done and why."""
    words = _WORDS[Verb(row.verb)]
    if Verb(row.verb) in (Verb.SEND_SERVER, Verb.SEND_NETWORK):
        return words
    return f"{words}: {row.reason}"


def _cells(row: Drift) -> tuple[str, ...]:
    side = f"{row.direction}, known" if row.kept_at else row.direction
    name = f"{row.name} ({row.detail})" if row.detail else row.name
    age = lasted(timezone.now() - row.first_seen)
    return str(row.host), side, row.kind, name, age, words_of(row)
