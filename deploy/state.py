"""What one cloud on this machine is: its identity, ports, passwords and directories.

First step of everything in deploy/. An instance belongs to a state directory (CUMULET_STATE, or
.cumulet in the checkout); its name is a hash of that path, so checkouts and test runs on one
machine never meet. What service users must reach lies outside, because a checkout may be private
(`deploy.places`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import msgspec
from msgspec import Struct, field

from cloud import files
from cloud.errors import CumuletError
from deploy.places import HERE, user_name
from deploy.ports import Ports, choose_forwards, choose_port, choose_ports, keep

CHECKOUT = Path(__file__).resolve().parent.parent
DATA_ROOT = HERE.data
RUN_ROOT = HERE.run
# A Unix socket path ends at 107 bytes; hosts add so many to the run directory.
_SOCKET_BYTES, _ADDED_BYTES = 107, 48


class StateLost(CumuletError):
    """The data of this cloud exist, its passwords do not."""

    code: ClassVar[str] = "state_lost"


class Busy(CumuletError):
    """Another command works on the same cloud."""

    code: ClassVar[str] = "busy"
    retryable = True


class NotYours(CumuletError):
    """The state directory is another user's."""

    code: ClassVar[str] = "state_of_another_user"


class PathTooLong(CumuletError):
    """Sockets in the run directory would have names that no program can open."""

    code: ClassVar[str] = "path_too_long"


def _password() -> str:
    return secrets.token_urlsafe(24)


class Passwords(Struct, frozen=True, forbid_unknown_fields=True):
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    database: str = field(default_factory=_password)
    broker: str = field(default_factory=_password)
    flower: str = field(default_factory=_password)
    admin: str = field(default_factory=_password)


class _Saved(Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    ports: Ports
    passwords: Passwords
    forwards: int = 0


@dataclass(frozen=True)
class Instance:
    """One cloud. `state` is private; `data` and `run` let service users in.

    `forwards`: the first of FORWARDS ports that lead to guests of a user's own host. They are kept
    for good, because the inventory knows them.
    """

    id: str
    state: Path
    ports: Ports
    passwords: Passwords
    forwards: int = 0

    @property
    def data(self) -> Path:
        return DATA_ROOT / self.id

    @property
    def run(self) -> Path:
        """Sockets and pid files; short, because a Unix socket path ends at 107 bytes."""
        return RUN_ROOT / self.id if RUN_ROOT else self.state / "run"

    @property
    def log(self) -> Path:
        return self.state / "log"

    @property
    def static(self) -> Path:
        return self.data / "control" / "static"

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.web}"

    @property
    def api_url(self) -> str:
        return f"{self.web_url}/v1"

    @property
    def flower_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.flower}"

    def save(self) -> None:
        saved = _Saved(self.id, self.ports, self.passwords, self.forwards)
        text = msgspec.json.format(msgspec.json.encode(saved), indent=2)
        write_private(self.state / "state.json", text.decode())

    def remove_data(self) -> None:
        """Forget the cloud: everything but what the caller keeps in `state` beside it."""
        for path in (self.data, self.run):
            shutil.rmtree(path, ignore_errors=True)
            with _missing_or_not_empty():
                path.parent.rmdir()


def default_state() -> Path:
    return Path(os.environ.get("CUMULET_STATE") or CHECKOUT / ".cumulet").absolute()


def load(state: Path) -> Instance | None:
    """The instance of a state directory, or None if it was never made."""
    try:
        text = (state / "state.json").read_bytes()
    except FileNotFoundError:
        return None
    saved = msgspec.json.decode(text, type=_Saved)
    return Instance(saved.id, state, saved.ports, saved.passwords, saved.forwards)


def load_or_create(state: Path) -> Instance:
    """The instance of a state directory, made on first use. Raises StateLost.

    Ports of its own programs are kept from run to run; see `with_free_ports`.
    """
    found = load(state)
    if found is None:
        found = Instance(instance_id(state), state, choose_ports(), Passwords(), choose_forwards())
        if found.data.exists():
            raise StateLost(
                f"{found.data} holds a cloud whose passwords were in {state}/state.json, which is"
                " gone: put the file back, or run `deploy/down --purge` to forget that cloud"
            )
        if len(os.fsencode(found.run)) > _SOCKET_BYTES - _ADDED_BYTES:
            raise PathTooLong(
                f"{found.run} is too long a path for sockets: name a directory of at most"
                f" {_SOCKET_BYTES - _ADDED_BYTES - len('/run')} characters in CUMULET_STATE"
            )
        make_private(state)
        found.save()
    return found


def unknown(state: Path) -> Instance:
    """The instance that `state` would have, for cleaning up after its file was lost."""
    none = Ports(*[0] * len(Ports.__struct_fields__))
    return Instance(instance_id(state), state, none, Passwords())


def instance_id(state: Path) -> str:
    return hashlib.sha256(str(state).encode()).hexdigest()[:6]


def with_free_ports(instance: Instance) -> Instance:
    """The instance with every port that a stranger has taken meanwhile replaced.

    Only for a cloud that is down: nothing outside the state remembers a port.
    """
    kept = msgspec.structs.asdict(instance.ports)
    ports = Ports(**{name: port if keep(port) else choose_port() for name, port in kept.items()})
    if ports == instance.ports:
        return instance
    changed = replace(instance, ports=ports)
    changed.save()
    return changed


def make_private(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Replace a file that holds secrets; at no moment can anybody else read it."""
    files.write(path, text.encode(), alone=True)


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Have the state directory to oneself. The kernel releases the lock of a killed command."""
    _claim(state)
    with (state / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another deploy command works on {state}: wait for its end") from None
        yield


def _claim(state: Path) -> None:
    """Raises NotYours where the caller is not the one whose cloud it is, be it root."""
    place = next(path for path in (state, *state.parents) if _is_there(path))
    owner, own = place.stat().st_uid, os.geteuid()
    if owner == own or place != state:
        with suppress(PermissionError):
            make_private(state)
            return
    raise NotYours(
        f"{state} is not for {user_name(own)} to use, because {place} belongs to"
        f" {user_name(owner)}: run this as that user, or name another place in CUMULET_STATE"
    )


def _is_there(path: Path) -> bool:
    """Not, as far as the caller can see, in a directory that is closed to it."""
    try:
        return path.exists()
    except PermissionError:
        return False


@contextmanager
def _missing_or_not_empty() -> Iterator[None]:
    try:
        yield
    except OSError:
        return
