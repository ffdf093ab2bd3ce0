"""Does hardware virtualisation work here? Asked of a guest, because a device file proves nothing.

The guest is one boot sector that reports through QEMU's debug exit port. The answer holds for
one boot of the host and is kept on disk.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec
from msgspec import Struct

from cloud import shell
from cloud.wire import known
from vms.host import files
from vms.host.command import BINARY, SANDBOX, Accelerator
from vms.host.host import Host

KVM = Path("/dev/kvm")
FORBIDDEN = f"the user of this host's agent may not open {KVM}"
PROBE_SECONDS = 2.0
_PORT = 0xF4
# mov dx, 0xf4; mov al, 0x10; out dx, al; hlt; jmp -3: QEMU ends with 0x10 * 2 + 1.
_CODE = bytes((0xBA, _PORT, 0x00, 0xB0, 0x10, 0xEE, 0xF4, 0xEB, 0xFD))
_ALIVE = 0x10 * 2 + 1
_SECTOR = _CODE.ljust(510, b"\0") + b"\x55\xaa"


class Verdict(Struct, frozen=True):
    """What guests run on in this boot of the host, and why."""

    boot_id: str
    kind: Accelerator
    reason: str


def chosen(host: Host) -> Verdict:
    """The verdict of this boot; the first caller finds out, which takes up to 2 s."""
    if is_forbidden(host):  # whoever mends that need not start the machine anew
        return Verdict(host.boot_id, "tcg", f"guests are emulated, slowly: {FORBIDDEN}")
    with files.locked(host.paths.locks / "accelerator"):
        stored = _stored(host.paths.accelerator)
        if stored and stored.boot_id == host.boot_id:
            return stored
        verdict = _find_out(host)
        files.write(host.paths.accelerator, msgspec.json.encode(verdict))
        return verdict


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
    else:
        why_not = probe(host, "kvm")
    if not why_not:
        return Verdict(host.boot_id, "kvm", "a guest ran on it")
    return Verdict(host.boot_id, "tcg", f"guests are emulated, slowly: {why_not}")


def probe(host: Host, kind: Accelerator) -> str:
    """Run a guest that does nothing but say so; answers why that failed, "" if it did not.

    Raises CommandMissing, because a machine without QEMU is no host at all.
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
            result = shell.run(argv, timeout=PROBE_SECONDS, ok=range(256))
        except shell.CommandTimeout:
            return f"a guest on {kind} did not run within {PROBE_SECONDS:g} s"
        except shell.CommandFailed as error:
            return error.message
    if result.code != _ALIVE:
        said = (result.stderr or result.stdout).strip()[-200:]
        return f"a guest on {kind} ended with {result.code}: {said}"
    return ""
