"""Names of what projects own: their form, and that each is given once."""

from __future__ import annotations

from contextlib import AbstractContextManager

from cloud.constraints import refused_by
from cloud.errors import NotUnique, invalid

NAME_LENGTH = 128


def check_name(name: str) -> str:
    """The name if it may be one; raises InvalidInput."""
    if not 1 <= len(name) <= NAME_LENGTH or not name.isprintable():
        raise invalid("name", f"must have 1 to {NAME_LENGTH} printable characters")
    return name


def names_are_unique(constraint: str, what: str, name: str | None) -> AbstractContextManager[None]:
    """Turns the refusal of the database's constraint into NotUnique."""
    return refused_by({constraint: NotUnique("name", f"{what} name '{name}' is already used")})
