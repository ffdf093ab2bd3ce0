"""The header of a qcow2 file, read before any tool opens it. Pure.

Source: QEMU's docs/interop/qcow2.txt. What an honest image for a cloud never has is refused, even
where QEMU would cope with it: references to other files, parts that no guest sees (snapshots,
bitmaps), encryption, and tables that are not in the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Final

from cloud.errors import CumuletError

MAGIC: Final = b"QFI\xfb"
# All that is looked at is here: extensions that go on past it are not those of an honest image.
MOST_BYTES: Final = 4096
# More than any disk of a server type; a header may claim 2^63.
MAX_VIRTUAL_BYTES: Final = 64 * 2**40
# QEMU's own limit.
_MOST_L1_BYTES: Final = 32 * 2**20
_LEAST_CLUSTER, _MOST_CLUSTER = 9, 21

# version, backing file (offset, length), cluster bits, size, encryption, L1 (entries, offset),
# refcount table (offset, clusters), snapshots (count, offset)
_FIXED: Final = struct.Struct(">4xIQIIQIIQQIIQ")
# incompatible, compatible and autoclear features, refcount order, length of the header
_MORE: Final = struct.Struct(">QQQII")
_EXTENSION: Final = struct.Struct(">II")
_VERSION_2_BYTES: Final = 72

_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_HARMLESS_FEATURES: Final = _COMPRESSION | _EXTENDED_L2
_EXTERNAL_DATA_NAME: Final = 0x44415441
_BACKING_FORMAT: Final = 0xE2792ACA
_BITMAPS: Final = 0x23852875
_ENCRYPTION: Final = 0x0537BE77


class BadImage(CumuletError):
    """The file is not a disk image that a guest may use."""

    code: ClassVar[str] = "image_invalid"


class ReferencesFiles(BadImage):
    """The image refers to another file, such as a backing file."""

    code = "image_references_files"


class Encrypted(BadImage):
    """Nobody gives the key to the host."""

    code = "image_encrypted"


class HasHiddenParts(BadImage):
    """Snapshots or bitmaps, which no guest would see."""

    code = "image_has_hidden_parts"


@dataclass(frozen=True)
class Header:
    """Offsets and lengths in bytes, but `l1_entries` of 8 bytes; `extensions` by their kinds."""

    version: int
    backing: tuple[int, int]
    cluster_bits: int
    size: int
    encryption: int
    l1_entries: int
    l1_offset: int
    refcounts: tuple[int, int]
    snapshots: int
    features: int
    extensions: frozenset[int]


def read(start: bytes) -> Header:
    """`start`: the file's first MOST_BYTES, or all of it; raises BadImage."""
    if len(start) < _VERSION_2_BYTES:
        raise BadImage("the image ends within its header: upload it again")
    (
        version, backing_offset, backing_length, cluster_bits, size, encryption, l1_entries,
        l1_offset, refcounts_offset, refcount_clusters, snapshots, _,
    ) = _FIXED.unpack_from(start)  # fmt: skip
    if version not in (2, 3):
        raise BadImage(f"the image is qcow2 of version {version}: convert it to version 3")
    if not _LEAST_CLUSTER <= cluster_bits <= _MOST_CLUSTER:
        raise BadImage(f"the image's clusters have 2^{cluster_bits} bytes: make a new one")
    features, length = 0, _VERSION_2_BYTES
    if version == 3:
        if len(start) < _VERSION_2_BYTES + _MORE.size:
            raise BadImage("the image ends within its header: upload it again")
        features, _, _, _, length = _MORE.unpack_from(start, _VERSION_2_BYTES)
        if length < _VERSION_2_BYTES + _MORE.size or length % 8:
            raise BadImage(f"the image's header says to have {length} bytes: make a new one")
    return Header(
        version,
        (backing_offset, backing_length),
        cluster_bits,
        size,
        encryption,
        l1_entries,
        l1_offset,
        (refcounts_offset, refcount_clusters << cluster_bits),
        snapshots,
        features,
        frozenset(_extensions(start, length)),
    )


def _extensions(start: bytes, offset: int) -> list[int]:
    """The kinds of extensions that follow the header; raises BadImage if they have no end."""
    found: list[int] = []
    while True:
        if offset + _EXTENSION.size > len(start):
            raise BadImage("the image's header goes on without an end: make a new one")
        kind, length = _EXTENSION.unpack_from(start, offset)
        if kind == 0:
            return found
        found.append(kind)
        offset += _EXTENSION.size + (length + 7) // 8 * 8


def check(header: Header, file_bytes: int) -> None:
    """Raises a BadImage unless everything of the disk is in the file, for everybody to read."""
    if header.backing != (0, 0) or _BACKING_FORMAT in header.extensions:
        raise ReferencesFiles(
            "the image has a backing file: flatten it with `qemu-img convert -O qcow2`"
        )
    if header.features & _DATA_FILE or _EXTERNAL_DATA_NAME in header.extensions:
        raise ReferencesFiles(
            "the image's data is in another file: make one file of it with `qemu-img convert`"
        )
    if header.encryption or _ENCRYPTION in header.extensions:
        raise Encrypted("the image is encrypted: decrypt it with `qemu-img convert`")
    if header.snapshots or _BITMAPS in header.extensions:
        raise HasHiddenParts(
            "the image has snapshots or bitmaps: leave them out with `qemu-img convert`"
        )
    if header.features & (_DIRTY | _CORRUPT):
        raise BadImage("the image was not closed or is damaged: mend it with `qemu-img check -r`")
    if header.features & ~_HARMLESS_FEATURES:
        raise BadImage(f"the image needs unknown features ({header.features:#x}): convert it")
    if not 0 < header.size <= MAX_VIRTUAL_BYTES:
        raise BadImage(f"the image says that its disk has {header.size} bytes: make a new one")
    _check_tables(header, file_bytes)


def _check_tables(header: Header, file_bytes: int) -> None:
    """A short file can promise tables that would fill the host's memory."""
    l1_bytes = header.l1_entries * 8
    if l1_bytes > _MOST_L1_BYTES or header.refcounts[1] > file_bytes:
        raise BadImage("the image's tables are larger than any disk needs: make a new one")
    for offset, length in ((header.l1_offset, l1_bytes), header.refcounts):
        if offset < 1 << header.cluster_bits or offset + length > file_bytes:
            raise BadImage("the image's tables are not in the file: upload it again")
