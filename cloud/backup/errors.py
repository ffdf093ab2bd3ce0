"""What can be wrong with a backup. All codes are permanent."""

from __future__ import annotations

from typing import ClassVar

from cloud.errors import CumuletError


class BackupError(CumuletError):
    code: ClassVar[str] = "backup_failed"


class FileExists(BackupError):
    """The file is there already."""

    code = "backup_exists"


class DamagedBackup(BackupError):
    """The file is no backup, or not whole."""

    code = "backup_damaged"


class NewerBackup(BackupError):
    """The file was made by a release that this one does not understand."""

    code = "backup_newer"


class DatabaseNotEmpty(BackupError):
    """There is an inventory that would be lost."""

    code = "database_not_empty"


class DatabaseInUse(BackupError):
    """Somebody is connected to the database that is to be replaced."""

    code = "database_in_use"


class ToolsMissing(BackupError):
    """PostgreSQL's own programs are not installed."""

    code = "postgres_tools_missing"
