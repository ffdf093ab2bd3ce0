"""What a row's page is made of; the template `facts.html` draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.safestring import SafeString

from cloud.admin.chart import Chart
from cloud.admin.display import NOTHING, Tone

Cell = str | SafeString | int


@dataclass(frozen=True)
class Fact:
    """One line of a card: "" shows as a dash, None leaves the line out.

    `hint` explains the label when pointed at.
    """

    label: str
    value: Cell | None
    hint: str = ""

    @property
    def shown(self) -> Cell:
        return NOTHING if self.value is None or self.value == "" else self.value


@dataclass(frozen=True)
class Card:
    """Facts that belong together."""

    title: str
    facts: Sequence[Fact]
    icon: str = "info"
    note: str = ""

    @property
    def shown(self) -> list[Fact]:
        return [fact for fact in self.facts if fact.value is not None]


@dataclass(frozen=True)
class Table:
    """Rows related to the one shown. `empty` is said in place of no rows."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    empty: str
    more_url: str = ""


@dataclass(frozen=True)
class Callout:
    """Something the reader should know before anything else, and what to do about it."""

    tone: Tone
    title: str
    text: Cell


@dataclass(frozen=True)
class Page:
    """A row in words: heading, what needs attention, facts, the last hour, related rows.

    `reload_seconds` makes the page refresh itself; 0 leaves it as it is. `history` offers what
    administrators did to the row here.
    """

    title: str
    icon: str
    badges: Sequence[SafeString] = ()
    subtitle: Cell = ""
    callouts: Sequence[Callout] = ()
    cards: Sequence[Card] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    reload_seconds: int = 0
    history: bool = True
