"""The file of a backup: a tar of a manifest and PostgreSQL's dump, written whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from msgspec import Struct

from cloud import files, shell
from cloud.backup.errors import BackupError, DamagedBackup, FileExists, NewerBackup
from cloud.backup.postgres import Database, check_dump
from cloud.version import VERSION

FORMAT: Final = 1
_MANIFEST, _DUMP = "manifest.json", "inventory.dump"
_MOST_MANIFEST = 4 * 2**20
_PIECE = 2**20
# Whose number of rows is written down, for people and to be compared after a restore.
_COUNTED = {
    "servers": "vms_vm",
    "hosts": "cloud_host",
    "projects": "cloud_project",
    "addresses": "networks_address",
    "private networks": "networks_privatenetwork",
    "images": "vms_image",
}


class Manifest(Struct, frozen=True):
    """What is in the file, and which release can read it.

    `migrations`: all that the database had, as "app.name". `sha256` and `bytes` are those of the
    dump.
    """

    format: int
    made_at: datetime
    release: str
    migrations: tuple[str, ...]
    rows: dict[str, int]
    sha256: str
    bytes: int


def write(path: Path, *, force: bool = False) -> Manifest:
    """Write the inventory as it is at one moment, readable by nobody else, and read it back.

    Raises FileExists, or BackupError; then there is nothing new at `path`.
    """
    if path.exists() and not force:
        raise FileExists(f"{path} exists: choose another name, or --force to replace it")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as place:
            dump = Path(place) / _DUMP
            manifest = _dump(dump)
            new = Path(place) / "archive"
            _pack(new, manifest, dump)
            with opened(new):  # what cannot be read back is no backup
                pass
            new.replace(path)
            files.sync_directory(path.parent)
    except OSError as error:
        raise BackupError(f"cannot write {path}: {error}") from error
    return manifest


@contextmanager
def opened(path: Path) -> Iterator[tuple[Manifest, Path]]:
    """The manifest, and the dump as a file of its own, both proven to be whole.

    Raises DamagedBackup, or NewerBackup if this release cannot read it.
    """
    with tempfile.TemporaryDirectory(prefix="cumulet-backup-") as place:
        dump = Path(place) / _DUMP
        try:
            manifest = _unpack(path, dump)
        except (OSError, tarfile.TarError, KeyError, EOFError) as error:
            raise DamagedBackup(
                f"{path} is no backup, or damaged ({error}): use another one"
            ) from error
        except msgspec.MsgspecError as error:
            raise DamagedBackup(f"the manifest in {path} cannot be read: {error}") from error
        _check_age(path, manifest)
        if (_digest(dump), dump.stat().st_size) != (manifest.sha256, manifest.bytes):
            raise DamagedBackup(f"{path} is damaged, its checksum is another: use another one")
        try:
            check_dump(dump)
        except shell.CommandFailed as error:
            raise DamagedBackup(f"PostgreSQL cannot read {path}: {error.message}") from error
        yield manifest, dump


def _dump(dump: Path) -> Manifest:
    """PostgreSQL's dump and what is counted beside it are of one snapshot."""
    database = Database.of_settings().named(str(connection.settings_dict["NAME"]))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT pg_export_snapshot()")
        snapshot = str(cursor.fetchone()[0])
        applied = MigrationRecorder(connection).applied_migrations()
        rows = {}
        for name, table in _COUNTED.items():
            cursor.execute(f"SELECT count(*) FROM {table}")  # of the constant names above
            rows[name] = int(cursor.fetchone()[0])
        made_at = datetime.now(UTC)
        database.dump(dump, snapshot)
    return Manifest(
        format=FORMAT,
        made_at=made_at,
        release=VERSION,
        migrations=tuple(sorted(f"{app}.{name}" for app, name in applied)),
        rows=rows,
        sha256=_digest(dump),
        bytes=dump.stat().st_size,
    )


def _pack(path: Path, manifest: Manifest, dump: Path) -> None:
    text = msgspec.json.format(msgspec.json.encode(manifest))
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        with tarfile.open(fileobj=file, mode="w") as tar:
            member = tarfile.TarInfo(_MANIFEST)
            member.size, member.mode = len(text), 0o600
            tar.addfile(member, io.BytesIO(text))
            tar.add(dump, _DUMP, filter=_nameless)
        file.flush()
        os.fsync(file.fileno())


def _nameless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uname = member.gname = ""
    member.uid = member.gid = 0
    member.mode = 0o600
    return member


def _unpack(path: Path, dump: Path) -> Manifest:
    with tarfile.open(path, mode="r:") as tar:
        described = tar.getmember(_MANIFEST)
        text, packed = tar.extractfile(described), tar.extractfile(_DUMP)
        if text is None or packed is None or described.size > _MOST_MANIFEST:
            raise tarfile.TarError("it has no manifest or no dump")
        data = text.read()
        with dump.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            shutil.copyfileobj(packed, file, _PIECE)
    made_in = msgspec.json.decode(data, type=dict).get("format")
    if made_in != FORMAT:
        raise NewerBackup(
            f"{path} is of format {made_in}, this release reads {FORMAT}: use the release that made"
            " it"
        )
    return msgspec.json.decode(data, type=Manifest)


def _check_age(path: Path, manifest: Manifest) -> None:
    """An older database is migrated after it is restored; a newer one cannot be."""
    known = {f"{app}.{name}" for app, name in MigrationLoader(None).disk_migrations}
    if unknown := sorted(set(manifest.migrations) - known):
        raise NewerBackup(
            f"{path} was made by release {manifest.release}, whose database is newer"
            f" ({unknown[0]}): restore it with that release or a later one"
        )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
