"""What one cloud on this machine is: its identity, ports, passwords and directories.

First step of everything in deploy/. An instance belongs to a state directory (CUMULET_STATE, or
.cumulet in the checkout); its name is a hash of that path, so checkouts and test runs on one
machine never meet. What other users must reach lies outside, because a checkout may be private.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import msgspec
from msgspec import Struct, field

from cloud.errors import CumuletError

CHECKOUT = Path(__file__).resolve().parent.parent
DATA_ROOT = Path("/var/lib/cumulet")
RUN_ROOT = Path("/run/cumulet")
CACHE_ROOT = Path("/var/cache/cumulet")


class StateLost(CumuletError):
    """The data of this cloud exist, its passwords do not."""

    code: ClassVar[str] = "state_lost"


class Busy(CumuletError):
    """Another command works on the same cloud."""

    code: ClassVar[str] = "busy"
    retryable = True


class Ports(Struct, frozen=True, forbid_unknown_fields=True):
    """TCP ports on 127.0.0.1."""

    web: int
    flower: int
    postgres: int
    broker: int
    broker_api: int
    broker_metrics: int
    broker_distribution: int
    epmd: int


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


@dataclass(frozen=True)
class Instance:
    """One cloud. `state` is private to root; `data` and `run` let services in."""

    id: str
    state: Path
    ports: Ports
    passwords: Passwords

    @property
    def data(self) -> Path:
        return DATA_ROOT / self.id

    @property
    def run(self) -> Path:
        """Sockets and pid files; short, because a Unix socket path ends at 107 bytes."""
        return RUN_ROOT / self.id

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
        saved = _Saved(id=self.id, ports=self.ports, passwords=self.passwords)
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
    return Instance(saved.id, state, saved.ports, saved.passwords)


def load_or_create(state: Path) -> Instance:
    """The instance of a state directory, made on first use. Raises StateLost.

    Ports of its own programs are kept from run to run; see `with_free_ports`.
    """
    found = load(state)
    if found is None:
        found = Instance(instance_id(state), state, choose_ports(), Passwords())
        if found.data.exists():
            raise StateLost(
                f"{found.data} holds a cloud whose passwords were in {state}/state.json, which is"
                " gone: put the file back, or run `deploy/down --purge` to forget that cloud"
            )
        make_private(state)
        found.save()
    return found


def unknown(state: Path) -> Instance:
    """The instance that `state` would have, for cleaning up after its file was lost."""
    none = Ports(0, 0, 0, 0, 0, 0, 0, 0)
    return Instance(instance_id(state), state, none, Passwords())


def instance_id(state: Path) -> str:
    return hashlib.sha256(str(state).encode()).hexdigest()[:6]


def with_free_ports(instance: Instance) -> Instance:
    """The instance with every port that a stranger has taken meanwhile replaced.

    Only for a cloud that is down: nothing outside the state remembers a port.
    """
    kept = msgspec.structs.asdict(instance.ports)
    fresh = msgspec.structs.asdict(choose_ports())
    ports = Ports(**{name: p if port_is_free(p) else fresh[name] for name, p in kept.items()})
    if ports == instance.ports:
        return instance
    changed = Instance(instance.id, instance.state, ports, instance.passwords)
    changed.save()
    return changed


def choose_ports(web: int = 8000, flower: int = 5555) -> Ports:
    """Free ports; the two that people type are the usual ones if possible.

    Drawn below the range that the kernel hands to outgoing connections, so that a stopped
    cloud finds its ports free again.
    """
    taken: set[int] = set()

    def draw(preferred: int | None = None) -> int:
        port = preferred or random.randrange(20000, 32000)
        while port in taken or not port_is_free(port):
            port = random.randrange(20000, 32000)
        taken.add(port)
        return port

    return Ports(
        web=draw(web),
        flower=draw(flower),
        postgres=draw(),
        broker=draw(),
        broker_api=draw(),
        broker_metrics=draw(),
        broker_distribution=draw(),
        epmd=draw(),
    )


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def make_private(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Replace a file that holds secrets; at no moment can anybody else read it."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Have the state directory to oneself. The kernel releases the lock of a killed command."""
    make_private(state)
    with (state / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another deploy command works on {state}: wait for its end") from None
        yield


@contextmanager
def _missing_or_not_empty() -> Iterator[None]:
    try:
        yield
    except OSError:
        return
