"""Wanted against seen → what is missing and what is extra. Pure.

Nothing follows from what was not seen: a kind that the host could not look at is judged in neither
direction, and one of which it left out something is not said to be missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from vms.drift import things
from vms.drift.spec import HostInventory, Kind, Thing
from vms.drift.things import Key
from vms.drift.wanted import Wanted


class Direction(StrEnum):
    """As seen from the inventory."""

    MISSING = "missing"
    EXTRA = "extra"


@dataclass(frozen=True)
class Difference:
    """`detail`: what is not as it should be, where that is not simply that it is there or not."""

    direction: Direction
    thing: Thing
    detail: str = ""

    @property
    def key(self) -> tuple[Direction, Kind, str]:
        return self.direction, self.thing.kind, self.thing.name


def differences(wanted: Wanted, seen: HostInventory) -> list[Difference]:
    """What is missing first, each in the order of its key."""
    there = {things.key(thing): thing for thing in seen.things}
    blind = frozenset(seen.unseen)
    found = [
        *_missing(wanted.things, there, blind | seen.cut.keys()),
        *(
            Difference(Direction.EXTRA, thing)
            for key, thing in there.items()
            if key not in wanted.things
            and thing.kind not in blind
            and not _is_unsettled(wanted, thing)
        ),
        *(_ahead(wanted, thing) for thing in seen.things if _is_ahead(wanted, thing)),
    ]
    return sorted(found, key=lambda one: (one.direction is Direction.EXTRA, one.key))


def _missing(
    wanted: Mapping[Key, Thing], there: Mapping[Key, Thing], unjudged: frozenset[Kind]
) -> Iterator[Difference]:
    for key, thing in wanted.items():
        found = there.get(key)
        if thing.kind not in unjudged and (found is None or found.flaw):
            yield Difference(Direction.MISSING, thing, found.flaw if found else "")


def _is_unsettled(wanted: Wanted, thing: Thing) -> bool:
    return thing.server in wanted.unsettled_servers or thing.network in wanted.unsettled_networks


def _is_ahead(wanted: Wanted, thing: Thing) -> bool:
    return thing.kind is Kind.SERVER and thing.server in wanted.ahead


def _ahead(wanted: Wanted, thing: Thing) -> Difference:
    generation = wanted.ahead[thing.server or 0]
    detail = f"its host holds generation {generation}, newer than the inventory's"
    return Difference(Direction.EXTRA, thing, detail)
