"""PostgreSQL's own programs for the database of the settings; no password is on a command line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import psycopg2
from django.conf import settings
from psycopg2.sql import SQL, Identifier

from cloud import shell
from cloud.backup.errors import BackupError, DatabaseInUse, ToolsMissing

_PROGRAMS = Path("/usr/lib/postgresql")
# An inventory of ten thousand servers takes seconds; a slow disk shall not spoil it.
_SECONDS = 3600.0
_MAINTENANCE = "postgres"


@dataclass(frozen=True)
class Database:
    """Where it is, and who asks."""

    name: str
    user: str
    password: str
    host: str
    port: str

    DEFAULT: ClassVar[str] = "default"

    @classmethod
    def of_settings(cls) -> Self:
        known = settings.DATABASES[cls.DEFAULT]
        return cls(
            name=known["NAME"],
            user=known["USER"] or "",
            password=known["PASSWORD"] or "",
            host=known["HOST"] or "",
            port=str(known["PORT"] or ""),
        )

    def named(self, name: str) -> Self:
        return replace(self, name=name)

    @property
    def environment(self) -> dict[str, str]:
        """For libpq, which every program of PostgreSQL reads it from."""
        known = {
            "PGDATABASE": self.name,
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGHOST": self.host,
            "PGPORT": self.port,
        }
        return {name: value for name, value in known.items() if value}

    def dump(self, into: Path, snapshot: str) -> None:
        """Write all of it as of the snapshot; raises BackupError."""
        # Sessions are logins of now, of no use to anybody later.
        self._run(
            "pg_dump",
            *("--format=custom", f"--snapshot={snapshot}", "--no-owner", "--no-privileges"),
            *("--exclude-table-data=django_session", f"--file={into}"),
        )

    def load(self, dump: Path) -> None:
        """Fill it, which is empty, as a whole or not at all; raises BackupError."""
        self._run(
            "pg_restore",
            *("--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"),
            *(f"--dbname={self.name}", str(dump)),
        )

    def create(self, name: str) -> None:
        """Make an empty database beside it; raises BackupError."""
        with self._maintaining() as cursor:
            cursor.execute(
                SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(
                    Identifier(name)
                )
            )

    def drop(self, name: str) -> None:
        with self._maintaining() as cursor:
            cursor.execute(SQL("DROP DATABASE IF EXISTS {}").format(Identifier(name)))

    def replace_by(self, new: str, old: str) -> None:
        """The database `new` takes its name, at one moment, and it is called `old` from then on.

        PostgreSQL itself refuses while anybody is connected. Raises DatabaseInUse.
        """
        rename = SQL("ALTER DATABASE {} RENAME TO {}")
        try:
            with self._maintaining() as cursor:
                cursor.execute("BEGIN")
                cursor.execute(rename.format(Identifier(self.name), Identifier(old)))
                cursor.execute(rename.format(Identifier(new), Identifier(self.name)))
                cursor.execute("COMMIT")
        except psycopg2.errors.ObjectInUse as error:
            raise _in_use(self.name) from error

    def check_unused(self) -> None:
        """Raises DatabaseInUse if anybody is connected to it."""
        with self._maintaining() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <>"
                " pg_backend_pid()",
                [self.name],
            )
            if cursor.fetchone()[0]:
                raise _in_use(self.name)

    @contextmanager
    def _maintaining(self) -> Iterator[Any]:
        """A cursor in the server's own database, each statement a transaction."""
        known = self.named(_MAINTENANCE)
        connection = psycopg2.connect(
            dbname=known.name,
            user=known.user or None,
            password=known.password or None,
            host=known.host or None,
            port=known.port or None,
            connect_timeout=10,
        )
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                yield cursor
        except psycopg2.errors.InsufficientPrivilege as error:
            raise BackupError(
                f"role {self.user} may not do this ({error}): as PostgreSQL's superuser, ALTER ROLE"
                f" {self.user} CREATEDB, and make it the owner of {self.name}"
            ) from error
        finally:
            connection.close()

    def _run(self, program: str, *arguments: str) -> None:
        try:
            shell.run([tool(program), *arguments], timeout=_SECONDS, env=self.environment)
        except shell.CommandError as error:
            raise BackupError(f"PostgreSQL's {program} failed: {error.message}") from error


def check_dump(dump: Path) -> None:
    """Read all of it back; raises CommandError."""
    shell.run([tool("pg_restore"), f"--file={os.devnull}", str(dump)], timeout=_SECONDS)


def tool(program: str) -> Path:
    """The newest one of this machine, as an older one refuses a newer server."""
    found = [path for path in _PROGRAMS.glob(f"*/bin/{program}") if os.access(path, os.X_OK)]
    if found:
        return max(found, key=lambda path: float(path.parent.parent.name))
    elsewhere = shutil.which(program)
    if elsewhere is None:
        raise ToolsMissing(f"{program} is not installed: install the package postgresql-client")
    return Path(elsewhere)


def _in_use(name: str) -> DatabaseInUse:
    return DatabaseInUse(
        f"somebody is connected to database {name}: stop web, control, beat and flower of this"
        " cloud first (systemctl stop cumulet-web cumulet-control cumulet-beat cumulet-flower)"
    )
