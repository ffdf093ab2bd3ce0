"""Does hardware virtualisation work here? Asked of a guest, because a device file proves nothing.

The guest is one boot sector that reports through QEMU's debug exit port. The answer is kept on
disk. That a guest ran, or hung, holds for one boot of the host; what else keeps guests from KVM (a
module that is not loaded, a group that lacks a user) may be mended, so the agent's next start asks
again.
"""

from __future__ import annotations

import grp
import os
import tempfile
from pathlib import Path
from typing import ClassVar

import msgspec
from msgspec import Struct

from cloud import files, shell
from cloud.errors import CumuletError
from cloud.wire import known
from vms.host.command import BINARY, SANDBOX, Accelerator
from vms.host.host import Host

KVM = Path("/dev/kvm")
_GROUP = "kvm"
FORBIDDEN = f"the user of this host's agent may not open {KVM}"
PROBE_SECONDS = 2.0
# A machine that has just booted may be that slow; only a guest that does not run then either hangs.
PATIENT_SECONDS = 10.0
_PORT = 0xF4
# mov dx, 0xf4; mov al, 0x10; out dx, al; hlt; jmp -3: QEMU ends with 0x10 * 2 + 1.
_CODE = bytes((0xBA, _PORT, 0x00, 0xB0, 0x10, 0xEE, 0xF4, 0xEB, 0xFD))
_ALIVE = 0x10 * 2 + 1
_SECTOR = _CODE.ljust(510, b"\0") + b"\x55\xaa"


class Hangs(CumuletError):
    """A guest was started and did nothing."""

    code: ClassVar[str] = "guest_hangs"


class Verdict(Struct, frozen=True):
    """What guests run on, and why. `lasting`: until the host boots anew."""

    boot_id: str
    kind: Accelerator
    reason: str
    lasting: bool = False


def chosen(host: Host) -> Verdict:
    """The verdict of this boot; the first caller finds out, which takes up to 12 s if guests hang
    and a part of a second else.
    """
    if is_forbidden(host):  # whoever mends that need not start the machine anew
        return Verdict(host.boot_id, "tcg", f"guests are emulated, slowly: {FORBIDDEN}")
    with files.locked(host.paths.locks / "accelerator"):
        stored = _stored(host.paths.accelerator)
        if stored and stored.boot_id == host.boot_id:
            return stored
        verdict = _find_out(host)
        files.write(host.paths.accelerator, msgspec.json.encode(verdict))
        return verdict


def reconsider(host: Host) -> None:
    """Forget a verdict that need not hold any more; for the start of the agent."""
    with files.locked(host.paths.locks / "accelerator"):
        stored = _stored(host.paths.accelerator)
        if stored and not stored.lasting:
            host.paths.accelerator.unlink()


def is_forbidden(host: Host) -> bool:
    """Whether there is a device that the agent's own user, whose guests these are, may not open."""
    return host.owner is None and KVM.exists() and not os.access(KVM, os.R_OK | os.W_OK)


def _stored(path: Path) -> Verdict | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=known(Verdict))
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _find_out(host: Host) -> Verdict:
    if not KVM.exists():
        why_not = f"there is no {KVM}: switch on virtualisation in the firmware or the outer VM"
        return _emulated(host, why_not)
    try:
        why_not = _probe_patiently(host)
    except Hangs as error:
        return _emulated(host, error.message, lasting=True)
    if why_not:
        return _emulated(host, _remedy(host) + why_not)
    return Verdict(host.boot_id, "kvm", "a guest ran on it", lasting=True)


def _emulated(host: Host, why_not: str, *, lasting: bool = False) -> Verdict:
    return Verdict(host.boot_id, "tcg", f"guests are emulated, slowly: {why_not}", lasting)


def _remedy(host: Host) -> str:
    """What lets the QEMU user open the device, if it is not in the group that may."""
    try:
        group = grp.getgrnam(_GROUP)
    except KeyError:
        return ""
    device, owner = KVM.stat(), host.owner
    if owner is None or device.st_gid != group.gr_gid or device.st_mode & 0o006:
        return ""
    if group.gr_gid in os.getgrouplist(owner.name, owner.gid):
        return ""
    return f"`usermod -aG {_GROUP} {owner.name}`, then restart the agent: "


def _probe_patiently(host: Host) -> str:
    try:
        return probe(host, "kvm")
    except Hangs:
        return probe(host, "kvm", seconds=PATIENT_SECONDS)


def probe(host: Host, kind: Accelerator, *, seconds: float = PROBE_SECONDS) -> str:
    """Run a guest that does nothing but say so; answers why that failed, "" if it did not.

    Raises Hangs if it does not say so in time, and CommandMissing, because a machine without QEMU
    is no host at all.
    """
    with tempfile.NamedTemporaryFile(dir=host.paths.run, prefix="probe-", suffix=".img") as disk:
        disk.write(_SECTOR)
        disk.flush()
        os.fchmod(disk.fileno(), 0o444)
        argv = [
            *host.drop_privileges,
            *(BINARY, "-nodefaults", "-no-user-config", "-sandbox", SANDBOX, "-display", "none"),
            *("-machine", "pc,hpet=off,vmport=off,usb=off", "-accel", kind, "-m", "16"),
            *("-device", f"isa-debug-exit,iobase={_PORT:#x},iosize=1"),
            *("-drive", f"if=floppy,format=raw,read-only=on,file={disk.name.replace(',', ',,')}"),
            *("-boot", "a"),
        ]
        try:
            result = shell.run(argv, timeout=seconds, ok=range(256))
        except shell.CommandTimeout as error:
            raise Hangs(f"a guest on {kind} did not run within {seconds:g} s") from error
        except shell.CommandFailed as error:
            return error.message
    if result.code != _ALIVE:
        said = (result.stderr or result.stdout).strip()[-200:]
        return f"a guest on {kind} ended with {result.code}: {said}"
    return ""
