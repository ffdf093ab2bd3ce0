"""Is a downloaded disk what it claims to be? A guest must never read a file of its host.

A disk's file may name other files that QEMU would open with it. Such a header is refused here,
before any tool sees the file; the rest is left to `qemu-img info`, unprivileged and with limits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cloud import shell
from vms.host import qcow2
from vms.host.qcow2 import MAX_VIRTUAL_BYTES, BadImage, ReferencesFiles

_INFO_SECONDS = 30.0
# Not of processes, which count all that the user runs: without root that is a person.
_INFO_LIMITS = ("--as=2147483648", "--cpu=20", "--fsize=0")
# Of a program that a signal ended, by a limit or by a fault of its own, the number is negative.
_ANY_CODE: Final = range(-64, 256)

# Where other formats say what they are: at the start, or in a last block. Some name other files,
# and none is what a raw disk begins with. QEMU is never left to guess, and no tool that does should
# ever be given such a file.
_STARTS: Final = {
    b"KDMV": "vmdk",
    b"COWD": "vmdk",
    b"# Disk DescriptorFile": "vmdk",
    b"conectix": "vpc",
    b"cxsparse": "vpc",
    b"vhdxfile": "vhdx",
    b"QED\0": "qed",
    b"WithoutFreeSpace": "parallels",
    b"WithouFreSpacExt": "parallels",
    b"Bochs Virtual HD Image": "bochs",
    b"#!/bin/sh\n#V2.0 Format": "cloop",
}
_VDI_OFFSET, _VDI = 64, b"\x7f\x10\xda\xbe"
_LAST_BLOCK: Final = 512
_ENDS: Final = {b"conectix": "vpc", b"koly": "dmg"}


class WrongFormat(BadImage):
    """The file is of another format than the image says."""

    code = "image_wrong_format"


@dataclass(frozen=True)
class Disk:
    """What a disk's file says of itself. `size` in bytes; for a raw disk that of the file."""

    format: str
    size: int
    header: qcow2.Header | None = None


def read_disk(path: Path) -> Disk:
    """Raises BadImage for a qcow2 file whose header makes no sense."""
    length = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(qcow2.MOST_BYTES)
        file.seek(max(0, length - _LAST_BLOCK))
        end = file.read(_LAST_BLOCK)
    if start.startswith(qcow2.MAGIC):
        header = qcow2.read(start)
        return Disk("qcow2", header.size, header)
    return Disk(_other_format(start, end) or "raw", length)


def _other_format(start: bytes, end: bytes) -> str | None:
    if start[_VDI_OFFSET:].startswith(_VDI):
        return "vdi"
    for found, magics in ((start, _STARTS), (end, _ENDS)):
        for magic, name in magics.items():
            if found.startswith(magic):
                return name
    return None


def virtual_bytes(path: Path) -> int:
    """The size of the disk that a guest sees; the file is known to be good."""
    return read_disk(path).size


def check_disk(path: Path, format: Literal["qcow2", "raw"], user: str | None) -> None:
    """Raises BadImage, or CommandError where the check itself could not be done.

    `user` (root only): who runs qemu-img; that user must be able to read the file.
    """
    disk = read_disk(path)
    if disk.format != format:
        raise WrongFormat(f"the image is said to be {format} and is {disk.format}: correct it")
    if disk.header:
        qcow2.check(disk.header, path.stat().st_size)
    elif not 0 < disk.size <= MAX_VIRTUAL_BYTES:
        raise BadImage(f"the image has {disk.size} bytes: make a new one")
    info = _info(path, format, user)
    if info.get("virtual-size") != disk.size or _refers(info):
        raise ReferencesFiles(f"qemu-img sees more in the image than its header tells: {info}")


def _info(path: Path, format: str, user: str | None) -> dict[str, object]:
    """What qemu-img breaks off at, or is not done with in time, is no honest image."""
    command = ["prlimit", *_INFO_LIMITS, "qemu-img", "info", "-f", format, "--output=json"]
    try:
        result = shell.run([*command, path], timeout=_INFO_SECONDS, user=user, ok=_ANY_CODE)
    except shell.CommandTimeout as error:
        raise BadImage(
            f"qemu-img cannot read the image: {error.message}: make a new one"
        ) from error
    try:
        info = json.loads(result.stdout)
    except ValueError:
        info = None
    if result.code != 0 or not isinstance(info, dict):
        said = result.stderr.strip()[-500:] or f"it ended with exit code {result.code}"
        raise BadImage(f"qemu-img cannot read the image: {said}: make a new one")
    return info


def _refers(info: dict[str, object]) -> bool:
    specific = info.get("format-specific")
    data = specific.get("data") if isinstance(specific, dict) else None
    external = isinstance(data, dict) and "data-file" in data
    return external or any(key.startswith(("backing-", "full-backing")) for key in info)
