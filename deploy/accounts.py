"""The system users that services run as, and directories that are theirs alone.

Nothing but the lab's agents and the proxy that enters the fabric runs as root. Several users, so
that a hole in the web server opens neither the database's files nor a guest's disk. In a cloud
that an ordinary user started everything is that user's: CONTROL and DATA are None there.
"""

from __future__ import annotations

import fcntl
import grp
import os
import pwd
from pathlib import Path

from cloud import files, shell
from deploy.places import HERE

CONTROL = HERE.account("cumulet")  # web, worker, beat, Flower
DATA = HERE.account("cumulet-data")  # PostgreSQL, RabbitMQ
QEMU = "cumulet-qemu"  # guests
PROXY = "cumulet-proxy"  # haproxy, after it bound its sockets
ROOTLESS = "cumulet-rootless"  # agents, guests and switches of hosts in user mode

_KVM = "kvm"  # the group that udev lets open /dev/kvm


def ensure_users() -> None:
    """Make the system users that are missing. They own nothing and cannot log in.

    Those that guests run as are in the group that may open /dev/kvm, where there is one; users
    that an earlier release made join it.
    """
    if CONTROL is None or DATA is None or HERE.run is None:
        return
    names = (CONTROL, DATA, QEMU, PROXY, ROOTLESS)
    if all(map(_exists, names)) and not _outside_kvm():
        return
    HERE.run.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (HERE.run / "users.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            if not _exists(name):
                command = ["useradd", "--system", "--user-group", "--no-create-home"]
                command += ["--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
                shell.run([*command, name], timeout=30)
        for name in _outside_kvm():
            shell.run(["usermod", "--append", "--groups", _KVM, name], timeout=30)


def own(path: Path, user: str | None, mode: int = 0o700) -> Path:
    """A directory of `user` (None: the caller's), made with its parents where missing."""
    path.mkdir(parents=True, exist_ok=True)
    seen = path.stat()
    if user and (seen.st_uid, seen.st_gid) != _ids(user):
        os.chown(path, *_ids(user))
    if seen.st_mode & 0o7777 != mode:
        path.chmod(mode)
    return path


def write_for(path: Path, text: str, user: str | None) -> None:
    """Replace a file that only `user` (None: the caller) and root may read."""
    files.write(path, text.encode(), owner=_ids(user) if user else None, alone=True)


def let_read(path: Path, user: str) -> Path:
    """A directory of root's whose files `user`, and no other one, may read and not change."""
    path.mkdir(mode=0o750, parents=True, exist_ok=True)
    os.chown(path, 0, _ids(user)[1])
    path.chmod(0o750)
    return path


def _ids(user: str) -> tuple[int, int]:
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def _outside_kvm() -> list[str]:
    """The users that guests run as who are not in the group, or not there."""
    try:
        group = grp.getgrnam(_KVM)
    except KeyError:
        return []
    return [name for name in (QEMU, ROOTLESS) if name not in group.gr_mem]


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
