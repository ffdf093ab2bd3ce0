"""What the database's constraints refuse, in words of the cloud."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from django.db import IntegrityError

from cloud.errors import CumuletError


@contextmanager
def refused_by(constraints: Mapping[str, CumuletError]) -> Iterator[None]:
    """Raises the error of the constraint, by its name, that the block breaks.

    Where more is to be done in the same transaction, the block needs a savepoint of its own.
    """
    try:
        yield
    except IntegrityError as error:
        broken = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
        if (refusal := constraints.get(broken or "")) is None:
            raise
        raise refusal from error
