"""A backup of the inventory, read back by PostgreSQL's own programs, and what is refused."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from cloud.backup import archive, restoring
from cloud.backup.errors import (
    BackupError,
    DamagedBackup,
    DatabaseInUse,
    DatabaseNotEmpty,
    FileExists,
    NewerBackup,
)
from cloud.backup.postgres import Database
from cloud.backup.restoring import Steps
from cloud.models import AuditEntry, Project
from tests import factories as make
from vms.models import VM

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.faults]

NOTHING: Steps[None, None] = Steps(read=lambda: None, apart=lambda marks, made_at: None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cloud.backup"


@pytest.fixture
def vm(db: None) -> VM:
    make.host()
    make.pool()
    return make.ordered(user_data="planted-secret").vm


def restore(file: Path) -> restoring.Restored[None]:
    return restoring.restore(file, NOTHING, replace=True)


def repacked(file: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The same file with another manifest."""
    with tarfile.open(file) as tar:
        names = tar.getnames()
        parts = {name: tar.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    manifest = json.loads(parts["manifest.json"])
    change(manifest)
    parts["manifest.json"] = json.dumps(manifest).encode()
    other = file.with_name("other.backup")
    with tarfile.open(other, "w") as tar:
        for name, data in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return other


def test_everything_comes_back_and_what_was_made_since_is_gone(file: Path, vm: VM) -> None:
    entries = AuditEntry.objects.count()
    manifest = archive.write(file)
    assert manifest.rows["servers"] == 1
    make.ordered("made-later")
    VM.objects.filter(pk=vm.pk).update(name="renamed")
    restored = restore(file)
    assert restored.manifest == manifest
    found = VM.objects.get()
    assert (found.pk, found.uuid, found.name) == (vm.pk, vm.uuid, "web-1")
    assert found.user_data == "planted-secret"
    assert AuditEntry.objects.count() == entries


def test_what_was_there_is_kept_and_can_be_had_again(file: Path, vm: VM) -> None:
    archive.write(file)
    make.ordered("made-later")
    saved = restore(file).saved
    assert saved is not None
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert VM.objects.count() == 1
    restore(saved)
    assert sorted(VM.objects.values_list("name", flat=True)) == ["made-later", "web-1"]


def test_the_file_is_its_owners_alone_and_nothing_is_left_beside_it(file: Path, vm: VM) -> None:
    archive.write(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_exists_is_replaced_only_on_request(file: Path, vm: VM) -> None:
    file.write_text("precious")
    with pytest.raises(FileExists, match="--force"):
        archive.write(file)
    assert file.read_text() == "precious"
    archive.write(file, force=True)
    assert tarfile.is_tarfile(file)


def test_a_backup_that_fails_leaves_the_one_before(
    file: Path, vm: VM, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write(file)
    before = file.read_bytes()

    def full(self: Database, into: Path, snapshot: str) -> None:
        into.write_bytes(b"half")
        raise BackupError("PostgreSQL's pg_dump failed: No space left on device")

    monkeypatch.setattr(Database, "dump", full)
    with pytest.raises(BackupError, match="No space left"):
        archive.write(file, force=True)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_the_dump_and_its_counts_are_of_one_moment(
    file: Path, vm: VM, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Database.dump

    def meanwhile(self: Database, into: Path, snapshot: str) -> None:
        database = psycopg2.connect(**connection.get_connection_params())
        with database, database.cursor() as cursor:
            cursor.execute("UPDATE vms_vm SET name = 'renamed-meanwhile'")
        database.close()
        real(self, into, snapshot)

    monkeypatch.setattr(Database, "dump", meanwhile)
    archive.write(file)
    assert VM.objects.get().name == "renamed-meanwhile"
    monkeypatch.undo()
    restore(file)
    assert VM.objects.get().name == "web-1"


def test_no_password_is_on_a_command_line(
    file: Path, vm: VM, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloud import shell

    seen: list[str] = []
    real = shell.run

    def watched(argv: Any, **options: Any) -> shell.Result:
        seen.extend(map(str, argv))
        return real(argv, **options)

    monkeypatch.setattr(shell, "run", watched)
    archive.write(file)
    assert any("pg_dump" in word for word in seen)
    assert not any(connection.settings_dict["PASSWORD"] in word for word in seen)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[: len(data) // 2], id="cut off"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: b"no archive at all", id="something else"),
        pytest.param(
            lambda data: data[: len(data) // 2] + b"\xff" + data[len(data) // 2 + 1 :],
            id="one byte",
        ),
    ],
)
def test_a_damaged_file_is_refused_and_nothing_is_changed(
    file: Path, vm: VM, damage: Callable[[bytes], bytes]
) -> None:
    archive.write(file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DamagedBackup):
        restore(file)
    assert VM.objects.get().pk == vm.pk


def test_a_file_of_a_newer_release_is_refused(file: Path, vm: VM) -> None:
    archive.write(file)

    def newer(manifest: dict[str, Any]) -> None:
        manifest["migrations"].append("vms.9999_from_the_future")
        manifest["release"] = "99.0"

    with pytest.raises(NewerBackup, match=r"release 99\.0, whose database is newer"):
        restore(repacked(file, newer))
    with pytest.raises(NewerBackup, match="format 2"):
        restore(repacked(file, lambda manifest: manifest.update(format=2)))


def test_an_inventory_is_replaced_only_on_request(file: Path, vm: VM) -> None:
    archive.write(file)
    with pytest.raises(DatabaseNotEmpty, match="--replace"):
        restoring.restore(file, NOTHING)


def test_nothing_is_replaced_under_the_feet_of_a_running_control(file: Path, vm: VM) -> None:
    archive.write(file)
    control = psycopg2.connect(**connection.get_connection_params())
    try:
        with pytest.raises(DatabaseInUse, match="stop web, control, beat and flower"):
            restore(file)
    finally:
        control.close()
    assert VM.objects.get().pk == vm.pk
    assert list(file.parent.iterdir()) == [file]


def test_what_fails_on_the_way_leaves_the_inventory_as_it_was(file: Path, vm: VM) -> None:
    archive.write(file)
    Project.objects.create(name="made-later")

    def fail(marks: None, made_at: datetime) -> None:
        assert not Project.objects.filter(name="made-later").exists()
        raise ZeroDivisionError("half-way")

    with pytest.raises(ZeroDivisionError):
        restoring.restore(file, Steps(read=lambda: None, apart=fail), replace=True)
    assert Project.objects.filter(name="made-later").exists()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_database WHERE datname LIKE '%\\_restored'")
        assert cursor.fetchone() == (0,)


def test_the_command_says_what_is_in_the_file_and_that_it_is_secret(
    file: Path, vm: VM, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("backup", str(file))
    said = capsys.readouterr().out
    assert "1 servers, 1 hosts" in said
    assert "It holds secrets" in said
    with pytest.raises(CommandError, match="backup_exists"):
        call_command("backup", str(file))
    with pytest.raises(CommandError, match=r"database_not_empty.*nothing was changed"):
        call_command("restore", str(file))
