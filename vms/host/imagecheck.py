"""Is a downloaded disk what it claims to be? A guest must never read a file of its host.

A qcow2 file may name other files that QEMU would open with it. Such a header is refused here,
before any tool sees the file; the rest is left to `qemu-img info`, unprivileged and with limits.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from cloud import shell
from cloud.errors import CumuletError

# More than any disk of a server type; a header may claim 2^63.
MAX_VIRTUAL_BYTES = 64 * 2**40
_MAGIC = b"QFI\xfb"
# QEMU's docs/interop/qcow2.txt: version, backing file offset, then the size at 24 and the
# incompatible features at 72.
_HEADER = struct.Struct(">4sIQ")
_SIZE = struct.Struct(">Q")
_SIZE_OFFSET, _FEATURES_OFFSET = 24, 72
_HEADER_BYTES = 80
_EXTERNAL_DATA = 1 << 2
_INFO_SECONDS = 30.0
# Not of processes, which count all that the user runs: without root that is a person.
_INFO_LIMITS = ("--as=2147483648", "--cpu=20", "--fsize=0")


class BadImage(CumuletError):
    """The file is not a disk image that a guest may use."""

    code: ClassVar[str] = "image_invalid"


class WrongFormat(BadImage):
    """The file is of another format than the image says."""

    code = "image_wrong_format"


class ReferencesFiles(BadImage):
    """The image refers to another file, such as a backing file."""

    code = "image_references_files"


@dataclass(frozen=True)
class Header:
    """What the first bytes of a disk say. `size` in bytes; for a raw disk that of the file."""

    format: Literal["qcow2", "raw"]
    size: int
    references: bool


def read_header(path: Path) -> Header:
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    if not start.startswith(_MAGIC):
        return Header("raw", path.stat().st_size, references=False)
    if len(start) < _HEADER_BYTES:
        raise BadImage(f"{path.name} ends within its header: upload it again")
    _, version, backing_offset = _HEADER.unpack_from(start)
    (size,) = _SIZE.unpack_from(start, _SIZE_OFFSET)
    (features,) = _SIZE.unpack_from(start, _FEATURES_OFFSET) if version >= 3 else (0,)
    references = backing_offset != 0 or bool(features & _EXTERNAL_DATA)
    return Header("qcow2", size, references)


def virtual_bytes(path: Path) -> int:
    """The size of the disk that a guest sees; the file is known to be good."""
    return read_header(path).size


def check_disk(path: Path, format: Literal["qcow2", "raw"], user: str | None) -> None:
    """Raises BadImage, or CommandError where the check itself could not be done.

    `user` (root only): who runs qemu-img; that user must be able to read the file.
    """
    header = read_header(path)
    if header.format != format:
        raise WrongFormat(f"the image is said to be {format} and is {header.format}: correct it")
    if header.references:
        raise ReferencesFiles(
            "the image refers to another file: flatten it with `qemu-img convert`"
        )
    if not 0 < header.size <= MAX_VIRTUAL_BYTES:
        raise BadImage(f"the image says that its disk has {header.size} bytes: make a new one")
    info = _info(path, format, user)
    if info.get("virtual-size") != header.size or _refers(info):
        raise ReferencesFiles(f"qemu-img sees more in the image than its header tells: {info}")


def _info(path: Path, format: str, user: str | None) -> dict[str, object]:
    command = ["prlimit", *_INFO_LIMITS, "qemu-img", "info", "-f", format, "--output=json"]
    result = shell.run([*command, path], timeout=_INFO_SECONDS, user=user, ok=range(256))
    try:
        info = json.loads(result.stdout)
    except ValueError:
        info = None
    if result.code != 0 or not isinstance(info, dict):
        raise BadImage(f"qemu-img cannot read the image: {result.stderr.strip()[-500:]}")
    return info


def _refers(info: dict[str, object]) -> bool:
    specific = info.get("format-specific")
    data = specific.get("data") if isinstance(specific, dict) else None
    external = isinstance(data, dict) and "data-file" in data
    return external or any(key.startswith(("backing-", "full-backing")) for key in info)
