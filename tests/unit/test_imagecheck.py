"""A disk's header is believed only as far as it is harmless, before any tool opens the file."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vms.host import qcow2
from vms.host.imagecheck import WrongFormat, check_disk, read_disk
from vms.host.qcow2 import BadImage, Encrypted, HasHiddenParts, ReferencesFiles

pytestmark = pytest.mark.faults

HONEST: dict[str, int] = {
    "version": 3,
    "backing_offset": 0,
    "backing_length": 0,
    "cluster_bits": 16,
    "size": 2**30,
    "encryption": 0,
    "l1_entries": 2,
    "l1_offset": 3 << 16,
    "refcounts_offset": 1 << 16,
    "refcount_clusters": 1,
    "snapshots": 0,
    "snapshots_offset": 0,
    "features": 0,
    "header_length": 104,
}


def image(extensions: bytes = bytes(8), **changes: int) -> bytes:
    """A qcow2 file of four clusters, as QEMU's docs/interop/qcow2.txt has it."""
    values = {**HONEST, **changes}
    *fixed, features, length = values.values()
    start = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", *fixed)
    if values["version"] >= 3:
        start += struct.pack(">QQQII", features, 0, 0, 4, length)
    return (start + extensions).ljust(4 << 16, b"\0")


def extension(kind: int, content: bytes) -> bytes:
    padded = content.ljust(-(-len(content) // 8) * 8, b"\0")
    return struct.pack(">II", kind, len(content)) + padded + bytes(8)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk"


def test_a_plain_header_tells_format_and_size(disk: Path) -> None:
    disk.write_bytes(image(size=5 * 2**30))
    found = read_disk(disk)
    assert (found.format, found.size) == ("qcow2", 5 * 2**30)
    assert found.header
    qcow2.check(found.header, disk.stat().st_size)


def test_an_honest_image_may_be_of_version_2_and_name_its_features(disk: Path) -> None:
    for content in (image(version=2), image(extension(0x6803F857, b"lazy refcounts"))):
        qcow2.check(qcow2.read(content[: qcow2.MOST_BYTES]), len(content))


def test_what_is_of_no_known_format_is_raw_and_as_large_as_its_file(disk: Path) -> None:
    disk.write_bytes(b"\xeb\x63" + bytes(1022))
    found = read_disk(disk)
    assert (found.format, found.size) == ("raw", 1024)


TRICKS: dict[str, tuple[type[BadImage], dict[str, Any]]] = {
    "a backing file": (ReferencesFiles, {"backing_offset": 512, "backing_length": 11}),
    "a backing file of version 2": (ReferencesFiles, {"backing_offset": 512, "version": 2}),
    "a backing file's length alone": (ReferencesFiles, {"backing_length": 11}),
    "a backing file's format alone": (
        ReferencesFiles,
        {"extensions": extension(0xE2792ACA, b"raw")},
    ),
    "a data file": (ReferencesFiles, {"features": 1 << 2}),
    "a data file's name alone": (
        ReferencesFiles,
        {"extensions": extension(0x44415441, b"/etc/shadow")},
    ),
    "AES": (Encrypted, {"encryption": 1}),
    "LUKS": (Encrypted, {"encryption": 2}),
    "a key's place": (Encrypted, {"extensions": extension(0x0537BE77, bytes(16))}),
    "snapshots": (HasHiddenParts, {"snapshots": 1, "snapshots_offset": 1 << 16}),
    "bitmaps": (HasHiddenParts, {"extensions": extension(0x23852875, bytes(24))}),
    "a disk that was not closed": (BadImage, {"features": 1}),
    "a disk that knows to be damaged": (BadImage, {"features": 2}),
    "a feature of the future": (BadImage, {"features": 1 << 40}),
    "version 1": (BadImage, {"version": 1}),
    "version 4": (BadImage, {"version": 4}),
    "clusters of a byte": (BadImage, {"cluster_bits": 0}),
    "clusters of 2^200 bytes": (BadImage, {"cluster_bits": 200}),
    "a table of 2^35 bytes": (BadImage, {"l1_entries": 2**32 - 1}),
    "a table beyond the file": (BadImage, {"l1_offset": 2**63}),
    "a table over the header": (BadImage, {"l1_offset": 0}),
    "counters beyond the file": (BadImage, {"refcounts_offset": 2**40}),
    "counters of 2^48 bytes": (BadImage, {"refcount_clusters": 2**32 - 1}),
    "no size": (BadImage, {"size": 0}),
    "a size of 2^63": (BadImage, {"size": 2**63}),
    "a size of 2^64 - 1": (BadImage, {"size": 2**64 - 1}),
    "a header of no length": (BadImage, {"header_length": 0}),
    "a header of 4 GiB": (BadImage, {"header_length": 2**32 - 8}),
    "an extension of 4 GiB": (BadImage, {"extensions": struct.pack(">II", 1, 2**32 - 1)}),
    "extensions without an end": (BadImage, {"extensions": b"\1" * 2**16}),
}


@pytest.mark.parametrize(("error", "trick"), TRICKS.values(), ids=TRICKS)
def test_a_header_with_a_trick_is_refused(
    disk: Path, error: type[BadImage], trick: dict[str, Any]
) -> None:
    disk.write_bytes(image(**trick))
    with pytest.raises(error):
        check_disk(disk, "qcow2", None)


@pytest.mark.parametrize("length", [4, 40, 71, 72, 100, 103])
def test_a_file_that_ends_within_its_header_is_refused(disk: Path, length: int) -> None:
    disk.write_bytes(image()[:length])
    with pytest.raises(BadImage):
        read_disk(disk)


def test_an_image_of_another_format_than_it_says_is_refused(disk: Path) -> None:
    disk.write_bytes(image())
    with pytest.raises(WrongFormat, match="said to be raw and is qcow2"):
        check_disk(disk, "raw", None)
    disk.write_bytes(bytes(1024))
    with pytest.raises(WrongFormat, match="said to be qcow2 and is raw"):
        check_disk(disk, "qcow2", None)


@given(st.binary(max_size=300))
def test_any_header_is_read_or_refused_by_type(rest: bytes) -> None:
    try:
        header = qcow2.read(qcow2.MAGIC + rest)
        qcow2.check(header, 2**20)
    except BadImage:
        return


@given(st.binary(max_size=64), st.integers(0, 110))
def test_a_damaged_header_is_read_or_refused_by_type(damage: bytes, place: int) -> None:
    content = bytearray(image()[: qcow2.MOST_BYTES])
    content[place + 4 : place + 4 + len(damage)] = damage
    try:
        header = qcow2.read(bytes(content))
        qcow2.check(header, 4 << 16)
    except BadImage:
        return
    assert header.backing == (0, 0)
    assert not header.features & (1 << 2)
