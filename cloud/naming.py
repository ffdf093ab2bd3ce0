"""Names of what projects own: their form, and that each is given once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError

from cloud.errors import NotUnique, invalid

NAME_LENGTH = 128


def check_name(name: str) -> str:
    """The name if it may be one; raises InvalidInput."""
    if not 1 <= len(name) <= NAME_LENGTH or not name.isprintable():
        raise invalid("name", f"must have 1 to {NAME_LENGTH} printable characters")
    return name


@contextmanager
def names_are_unique(constraint: str, what: str, name: str | None) -> Iterator[None]:
    """Turns the refusal of the database's constraint into NotUnique."""
    try:
        yield
    except IntegrityError as error:
        if constraint not in str(error):
            raise
        raise NotUnique("name", f"{what} name '{name}' is already used") from error
