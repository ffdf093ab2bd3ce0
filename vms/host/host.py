"""The machine that the agent and the monitor run on: identity, places, the user of its guests.

`Host.open` is the first thing that every process of a host does.
"""

from __future__ import annotations

import os
import pwd
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from cloud import files
from cloud.errors import CumuletError
from cloud.hostconfig import HostConfig
from networks.host import bridge
from networks.host.bridge_plan import BRIDGE
from networks.host.links import Tap
from networks.host.nics import Surroundings
from vms.host import netstore
from vms.host.paths import HostPaths, tap_name
from vms.spec import VmSpec

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TUN = Path("/dev/net/tun")
_CAP_NET_ADMIN = 12


class UnusableHost(CumuletError):
    """This machine is not set up to be a host."""

    code: ClassVar[str] = "host_unusable"


@dataclass(frozen=True)
class Owner:
    """The unprivileged user that QEMU runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Host:
    """One host. `uuid` is this machine's for ever, `boot_id` that of its present start: another
    one means that no process of before is left.

    `owner` is None where the agent itself has no privilege: then QEMU runs as the agent does.
    """

    config: HostConfig
    paths: HostPaths
    uuid: str
    boot_id: str
    owner: Owner | None

    @classmethod
    def open(cls, config: HostConfig) -> Host:
        """Make the host's directories and its identity where missing; raises UnusableHost."""
        paths = HostPaths(config.state_dir, config.run_dir)
        owner = _owner(config)
        _make_directories(paths, owner)
        boot_id = config.boot_id or _BOOT_ID.read_text().strip()
        host = cls(config, paths, _identity(paths), boot_id, owner)
        if owner and host.routes_networks:
            _admit_to_tun()
        return host

    @cached_property
    def routes_networks(self) -> bool:
        """Whether the agent may make links and rules (CAP_NET_ADMIN in its namespace)."""
        return _has_net_admin()

    @property
    def drop_privileges(self) -> list[str]:
        """The words before a command line that is to run as the QEMU user, without any privilege.

        Its groups stay, because one of them may open /dev/kvm.
        """
        if self.owner is None:
            return []
        return [
            *("setpriv", f"--reuid={self.owner.uid}", f"--regid={self.owner.gid}"),
            *("--init-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"),
        ]

    @property
    def surroundings(self) -> Surroundings:
        uplink = BRIDGE if bridge.exists() else self.config.uplink
        return Surroundings(uplink, self.config.protected, self.uuid)

    def taps(self, spec: VmSpec) -> list[Tap]:
        """The interfaces of a VM's NICs; the QEMU user may open them."""
        owner = self.owner.uid if self.owner else None
        return [
            Tap(tap_name(spec.vm_id, nic.index), nic, owner, netstore.network_of(self.paths, nic))
            for nic in spec.nics
        ]

    def give(self, path: Path, mode: int) -> None:
        """Make the QEMU user the owner of a file or directory."""
        if self.owner:
            os.chown(path, self.owner.uid, self.owner.gid)
        path.chmod(mode)


def _owner(config: HostConfig) -> Owner | None:
    if os.geteuid() != 0:
        return None
    if not _has_net_admin():
        # In user mode guests share a user with their switches, and no guest runs as root.
        raise UnusableHost(
            "root's agent has no CAP_NET_ADMIN here, so it cannot connect guests: give it that"
            " capability, or run it as an ordinary user"
        )
    if config.qemu_user is None:
        raise UnusableHost(
            "guests never run as root: set CUMULET_HOST_QEMU_USER to an unprivileged user"
        )
    try:
        entry = pwd.getpwnam(config.qemu_user)
    except KeyError as error:
        raise UnusableHost(
            f"there is no user {config.qemu_user!r} for the guests: make it"
            f" (`useradd --system --groups kvm {config.qemu_user}`), or correct"
            " CUMULET_HOST_QEMU_USER"
        ) from error
    if entry.pw_uid == 0:
        raise UnusableHost("guests never run as root: CUMULET_HOST_QEMU_USER is another name of it")
    return Owner(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _has_net_admin() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_NET_ADMIN & 1)
    return False


def _admit_to_tun() -> None:
    """Let QEMU open its own TAPs, as udev does where it runs.

    The kernel's tuntap.rst sees no harm in it: without CAP_NET_ADMIN a user reaches only the
    interfaces that were made for that user.
    """
    if _TUN.exists() and _TUN.stat().st_mode & 0o666 != 0o666:
        _TUN.chmod(0o666)


def _make_directories(paths: HostPaths, owner: Owner | None) -> None:
    """The QEMU user passes through to its files; everything else is the agent's alone."""
    passable = 0o711 if owner else 0o700
    for path in (paths.state, paths.run, paths.vms, paths.images, paths.gateways):
        _directory(path, passable)
    private = (
        paths.tombstones,
        paths.networks,
        paths.network_fences,
        paths.downloads,
        paths.wanted_images,
        paths.refused_images,
        paths.locks,
        paths.unsent,
        paths.logs,
        paths.outlets,
    )
    for path in private:
        _directory(path, 0o700)


def _directory(path: Path, mode: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if path.stat().st_mode & 0o7777 != mode:
        path.chmod(mode)


def _identity(paths: HostPaths) -> str:
    with files.locked(paths.locks / "identity"):
        if not paths.identity.exists():
            files.write(paths.identity, f"{uuid.uuid4()}\n".encode())
        text = paths.identity.read_text().strip()
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise UnusableHost(
            f"{paths.identity} does not hold a UUID: restore it, or remove it to make this"
            " machine a new host"
        ) from error
