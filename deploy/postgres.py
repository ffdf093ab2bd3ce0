"""This cloud's own PostgreSQL: cluster, configuration, program.

One of the services that `deploy.cloud` starts. A server that already runs on the machine is
never touched: own data directory, port, socket directory and user.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import ClassVar

import psycopg2

from cloud import shell
from cloud.errors import CumuletError
from deploy import accounts
from deploy.state import Instance
from deploy.supervise import Program

NAME = "postgres"
DATABASE = "cumulet"
ROLE = "cloud"
_PROGRAMS = Path("/usr/lib/postgresql")


class PostgresMissing(CumuletError):
    code: ClassVar[str] = "postgres_missing"


def url(instance: Instance, database: str = DATABASE) -> str:
    password, port = instance.passwords.database, instance.ports.postgres
    return f"postgres://{ROLE}:{password}@127.0.0.1:{port}/{database}"


def prepare(instance: Instance) -> None:
    """Make the cluster if there is none, and write its configuration."""
    directory = _directory(instance)
    accounts.own(directory.parent, accounts.DATA)
    accounts.own(_sockets(instance), accounts.DATA)
    if not directory.exists():
        _make_cluster(instance, directory)
    accounts.write_for(directory / "cumulet.conf", _configuration(instance), accounts.DATA)
    _remove_stale_locks(instance)


def program(instance: Instance, *, durable: bool = True) -> Program:
    """`durable` False trades safety against power cuts for speed: test runs only."""
    directory = _directory(instance)
    argv: list[str | Path] = [_binaries_of(directory) / "postgres", "-D", directory]
    argv += ["-c", f"config_file={directory}/cumulet.conf"]
    argv += [] if durable else ["-c", "fsync=off", "-c", "full_page_writes=off"]
    return Program(
        name=NAME,
        argv=argv,
        directory=directory.parent,
        user=accounts.DATA,
        configuration=_configuration(instance),
        stop_signal="INT",  # "fast": roll back what is open, then end
    )


def ready(instance: Instance) -> bool:
    """Whether the server answers; makes the database on first contact."""
    try:
        connection = psycopg2.connect(url(instance, "postgres"), connect_timeout=2)
    except psycopg2.OperationalError:
        return False
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        connection.close()
    return True


def _binaries_of(cluster: Path) -> Path:
    """The server that made the cluster: no other one reads it. Raises PostgresMissing."""
    version = (cluster / "PG_VERSION").read_text().strip()
    found = _PROGRAMS / version / "bin"
    if not (found / "postgres").exists():
        raise PostgresMissing(
            f"{cluster} was made by PostgreSQL {version}, which is not installed (any more):"
            f" install the package postgresql-{version}"
        )
    return found


def _newest_binaries() -> Path:
    """Of a server that is installed; raises PostgresMissing."""
    found = [path for path in _PROGRAMS.glob("*/bin") if (path / "initdb").exists()]
    if not found:
        raise PostgresMissing("PostgreSQL is not installed: run deploy/up, which installs it")
    return max(found, key=lambda path: int(path.parent.name))


def _directory(instance: Instance) -> Path:
    return instance.data / "postgres" / "cluster"


def _sockets(instance: Instance) -> Path:
    return instance.run / "postgres"


def _make_cluster(instance: Instance, directory: Path) -> None:
    """initdb beside the final place, so that a killed run leaves no half cluster behind."""
    fresh = directory.with_name("cluster.new")
    shutil.rmtree(fresh, ignore_errors=True)
    password = directory.with_name("password")
    accounts.write_for(password, instance.passwords.database, accounts.DATA)
    argv: list[str | Path] = [_newest_binaries() / "initdb", "-D", fresh]
    argv += ["-U", ROLE, "-A", "scram-sha-256"]
    argv += [f"--pwfile={password}", "-E", "UTF8", "--locale=C.UTF-8"]
    shell.run(argv, timeout=120, user=accounts.DATA, cwd=directory.parent, env={"TZ": "UTC"})
    password.unlink()
    fresh.rename(directory)


def _configuration(instance: Instance) -> str:
    directory = _directory(instance)
    return f"""\
data_directory = '{directory}'
hba_file = '{directory}/pg_hba.conf'
ident_file = '{directory}/pg_ident.conf'
listen_addresses = '127.0.0.1'
port = {instance.ports.postgres}
unix_socket_directories = '{_sockets(instance)}'
password_encryption = 'scram-sha-256'
max_connections = 100
shared_buffers = 64MB
timezone = 'UTC'
lc_messages = 'C.UTF-8'
log_line_prefix = '%m [%p] '
# A refused statement would be written down with its values, and so with users' secrets.
log_min_error_statement = panic
log_error_verbosity = terse
log_parameter_max_length_on_error = 0
"""


def _remove_stale_locks(instance: Instance) -> None:
    """After a power cut the number in a lock file may be another process's by now, or that of
    a zombie, and PostgreSQL would refuse to start."""
    directory = _directory(instance)
    socket = _sockets(instance) / f".s.PGSQL.{instance.ports.postgres}"
    for lock in (directory / "postmaster.pid", socket.with_name(f"{socket.name}.lock")):
        try:
            pid = re.match(r"\d+", lock.read_text())
            command = Path(f"/proc/{pid[0]}/cmdline").read_bytes() if pid else b""
        except FileNotFoundError:
            command = b""
        if str(directory).encode() not in command:
            lock.unlink(missing_ok=True)
