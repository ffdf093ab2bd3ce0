"""The QEMU process of a VM: start it so that it outlives us, find it again, end it.

A process counts as the VM's only with the VM's UUID among its arguments, and signals go through a
pidfd, so a pid that was used again is never mistaken for a guest.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from cloud import shell
from cloud.errors import CumuletError
from networks.host import processes
from vms.host import qmp
from vms.host.command import BINARY
from vms.host.host import Host
from vms.host.paths import HostPaths, VmPaths, number_of, unit_name

START_SECONDS = 20.0
APPEAR_SECONDS = 1.0
QUIT_SECONDS = 3.0
KILL_SECONDS = 5.0
_POLL_SECONDS = 0.005
_LOG_BYTES = 1500


class QemuFailed(CumuletError):
    """QEMU ended before the guest could start."""

    code: ClassVar[str] = "qemu_failed"
    retryable: ClassVar[bool] = True


class QemuImmortal(CumuletError):
    """QEMU is still there after it was killed; its disks must not be touched."""

    code: ClassVar[str] = "qemu_does_not_end"
    retryable: ClassVar[bool] = True


@dataclass(frozen=True)
class Process:
    """A living QEMU; `started` in clock ticks since the host's boot tells it from a later one."""

    pid: int
    started: int


@dataclass(frozen=True)
class Running:
    """A QEMU by its own arguments, which are proof of nothing. `vm_id`: whose directory it has."""

    pid: int
    uuid: str
    vm_id: int | None


def find(uuid: str, paths: VmPaths) -> Process | None:
    """The VM's QEMU. Looks at every process if the pid file does not lead to it."""
    return processes.search(partial(_identify, uuid), paths.pid)


def named(uuid: str, paths: VmPaths) -> Process | None:
    """The VM's QEMU if its pid file leads to it: cheap, and good enough to measure it."""
    return processes.named(partial(_identify, uuid), paths.pid)


def running(paths: HostPaths) -> Iterator[Running]:
    """Every QEMU that works in this host's directories, whether or not a document asks for it."""
    place = f"{paths.run}/"
    for pid, words in sorted(processes.running(BINARY).items()):
        pidfile, uuid = (_after(words, option) for option in ("-pidfile", "-uuid"))
        if pidfile.startswith(place) and uuid:
            vm_id = number_of(pidfile.removeprefix(place).partition("/")[0])
            yield Running(pid, uuid, vm_id)


def _after(words: tuple[str, ...], option: str) -> str:
    at = words.index(option) + 1 if option in words else len(words)
    return words[at] if at < len(words) else ""


def start(host: Host, uuid: str, paths: VmPaths, argv: list[str]) -> Process:
    """Start QEMU and wait until it can be talked to; raises QemuFailed or CommandError."""
    shutil.rmtree(paths.run, ignore_errors=True)  # sockets and pid of a QEMU that is gone
    paths.run.mkdir(mode=0o700)
    host.give(paths.run, 0o700)
    said_before = paths.log.stat().st_size if paths.log.exists() else 0
    if host.owner and _systemd():
        shell.run(unit_argv(host, uuid, paths, argv), timeout=START_SECONDS)
    else:
        shell.detach([*host.drop_privileges, *argv], log=paths.log)
    process = _appeared(uuid, paths)
    if process is None or not _answers(process, paths):
        raise QemuFailed(f"QEMU did not start: {_said(paths, said_before)} (from {paths.log})")
    return process


def unit_argv(host: Host, uuid: str, paths: VmPaths, argv: list[str]) -> list[str]:
    """`argv` in a transient systemd unit, which an upgrade of the agent does not touch.

    Only root's agent may make one; a user's has QEMU in a session of its own, like its switches.
    """
    assert host.owner, "the caller looks"
    properties = {
        "StandardError": f"append:{paths.log}",
        "Type": "exec",
        "KillMode": "mixed",
        "NoNewPrivileges": "yes",
        "OOMPolicy": "continue",
        "User": host.owner.name,
        "Group": str(host.owner.gid),
        "CapabilityBoundingSet": "",
    }
    if host.config.netns:
        properties["NetworkNamespacePath"] = host.config.netns
    return [
        *("systemd-run", "--quiet", "--collect", "--slice=cumulet.slice"),
        f"--unit={unit_name(uuid)}",
        *(f"--property={name}={value}" for name, value in properties.items()),
        "--",
        *argv,
    ]


def stop(uuid: str, paths: VmPaths) -> None:
    """End the VM's QEMU at once, politely first; raises QemuImmortal."""
    process = find(uuid, paths)
    if process is None:
        return
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if _identify(uuid, process.pid) != process:
            return
        if _asked_to_quit(paths) and _ended(handle, QUIT_SECONDS):
            return
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        if not _ended(handle, KILL_SECONDS):
            raise QemuImmortal(
                f"QEMU (pid {process.pid}) did not end {KILL_SECONDS:g} s after SIGKILL:"
                " look for storage that hangs; it is tried again"
            )
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


def _identify(uuid: str, pid: int) -> Process | None:
    """The process if it is, or is about to become, the VM's QEMU."""
    with suppress(OSError):
        if b"\0-uuid\0%b\0" % uuid.encode() in processes.command_line(pid):
            return Process(pid, processes.started(pid))
    return None


def _appeared(uuid: str, paths: VmPaths) -> Process | None:
    """The process that was just started; None if it ended already.

    While it turns from its launcher into QEMU it has no arguments for a moment.
    """
    deadline = time.monotonic() + APPEAR_SECONDS
    while time.monotonic() < deadline:
        if process := find(uuid, paths):
            return process
        time.sleep(_POLL_SECONDS)
    return None


def _answers(process: Process, paths: VmPaths) -> bool:
    """Wait until QEMU answers on its command socket; False if it ends instead."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    deadline = time.monotonic() + START_SECONDS
    try:
        while time.monotonic() < deadline:
            if paths.qmp.exists():
                with suppress(qmp.QmpFailure):
                    qmp.run_state(paths.qmp)
                    return True
            if _ended(handle, _POLL_SECONDS):
                return False
    finally:
        os.close(handle)
    return False


def _said(paths: VmPaths, since: int) -> str:
    with paths.log.open("rb") as log:
        log.seek(since)
        text = log.read().decode(errors="replace").strip()
    return text[-_LOG_BYTES:] or "(nothing)"


def _asked_to_quit(paths: VmPaths) -> bool:
    try:
        qmp.ask(paths.qmp, "quit")
    except qmp.QmpFailure:
        return False
    return True


def _ended(handle: int, seconds: float) -> bool:
    """A pidfd is readable once its process ended, also while nobody has reaped it."""
    return bool(select.select([handle], [], [], seconds)[0])


def _systemd() -> bool:
    """Whether systemd is PID 1; sd_booted(3)."""
    return Path("/run/systemd/system").is_dir()
