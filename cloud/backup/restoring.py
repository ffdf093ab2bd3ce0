"""Put a backup in the place of the inventory: beside it first, and then at one moment.

The backup is loaded into a database of its own, brought to this release's schema, and set apart
from what hosts have by then (`set_apart`, which `vms.restored` brings). Only what is complete takes
the name of the inventory; before that, whatever happens, the old one is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

from django.core.management import call_command
from django.db import connection

from cloud.backup import archive
from cloud.backup.archive import Manifest
from cloud.backup.errors import DatabaseNotEmpty
from cloud.backup.postgres import Database

MarksT = TypeVar("MarksT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Steps(Generic[MarksT, ResultT]):
    """What is done with the inventories: `read` the one that is replaced, `apart` the new one.

    `apart` gets what `read` answered, None if there was no inventory, and when the backup was made.
    """

    read: Callable[[], MarksT]
    apart: Callable[[MarksT | None, datetime], ResultT]


@dataclass(frozen=True)
class Restored(Generic[ResultT]):
    """`saved`: where the inventory that was replaced is kept, None if there was none."""

    manifest: Manifest
    saved: Path | None
    result: ResultT


def restore(
    path: Path, steps: Steps[MarksT, ResultT], *, replace: bool = False
) -> Restored[ResultT]:
    """Restore the inventory from the file; nobody else may be connected to the database.

    Raises DamagedBackup, NewerBackup, DatabaseNotEmpty (without `replace`), DatabaseInUse or
    BackupError, all of which leave everything as it was.
    """
    name = str(connection.settings_dict["NAME"])
    database = Database.of_settings().named(name)
    with archive.opened(path) as (manifest, dump):
        there = _has_inventory()
        if there and not replace:
            raise DatabaseNotEmpty(
                f"database {name} has an inventory: --replace restores all the same, and keeps a"
                " backup of what is there"
            )
        connection.close()
        database.check_unused()  # first: what is saved must be all there is
        marks = steps.read() if there else None
        saved = _save(path) if there else None
        connection.close()
        database.check_unused()
        new, old = f"{name}_restored", f"{name}_replaced"
        database.drop(new)
        database.drop(old)
        database.create(new)
        try:
            database.named(new).load(dump)
            with _connected_to(new):
                call_command("migrate", interactive=False, verbosity=0)
                result = steps.apart(marks, manifest.made_at)
            database.replace_by(new, old)
        except BaseException:
            connection.close()
            database.drop(new)
            raise
        database.drop(old)
    return Restored(manifest, saved, result)


def _has_inventory() -> bool:
    """Whether there is anything at all: an empty database has no tables."""
    return bool(connection.introspection.table_names())


def _save(path: Path) -> Path:
    """What is there may be wanted back: beside the file that replaces it."""
    now = datetime.now(UTC)
    saved = path.with_name(f"{path.name}.replaced-{now:%Y%m%dT%H%M%SZ}")
    archive.write(saved)
    return saved


@contextmanager
def _connected_to(name: str) -> Iterator[None]:
    """Django works with this database meanwhile."""
    before = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before
