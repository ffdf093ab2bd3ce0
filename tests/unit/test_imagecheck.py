"""A disk's header is believed only as far as it is harmless, before any tool opens the file."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from vms.host.imagecheck import BadImage, ReferencesFiles, WrongFormat, check_disk, read_header


def qcow2(*, backing: int = 0, size: int = 2**30, features: int = 0, version: int = 3) -> bytes:
    """The first bytes of a qcow2 file, as QEMU's docs/interop/qcow2.txt has them."""
    start = struct.pack(">4sIQIIQ", b"QFI\xfb", version, backing, 0, 16, size)
    return start.ljust(72, b"\0") + struct.pack(">Q", features) + bytes(32)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk"


def test_a_plain_header_tells_format_and_size(disk: Path) -> None:
    disk.write_bytes(qcow2(size=5 * 2**30))
    header = read_header(disk)
    assert (header.format, header.size, header.references) == ("qcow2", 5 * 2**30, False)


def test_whatever_is_not_qcow2_is_raw_and_as_large_as_its_file(disk: Path) -> None:
    disk.write_bytes(b"\xeb\x63" + bytes(1022))
    header = read_header(disk)
    assert (header.format, header.size) == ("raw", 1024)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(qcow2(backing=512), id="backing file"),
        pytest.param(qcow2(backing=512, version=2), id="backing file, version 2"),
        pytest.param(qcow2(features=1 << 2), id="data file"),
    ],
)
def test_an_image_that_refers_to_another_file_is_refused(disk: Path, header: bytes) -> None:
    disk.write_bytes(header)
    with pytest.raises(ReferencesFiles, match="flatten"):
        check_disk(disk, "qcow2", None)


def test_an_image_of_another_format_than_it_says_is_refused(disk: Path) -> None:
    disk.write_bytes(qcow2())
    with pytest.raises(WrongFormat, match="said to be raw and is qcow2"):
        check_disk(disk, "raw", None)
    disk.write_bytes(bytes(1024))
    with pytest.raises(WrongFormat, match="said to be qcow2 and is raw"):
        check_disk(disk, "qcow2", None)


@pytest.mark.parametrize("size", [0, 2**63, 2**64 - 1])
def test_an_absurd_size_is_refused(disk: Path, size: int) -> None:
    disk.write_bytes(qcow2(size=size))
    with pytest.raises(BadImage, match="says that its disk has"):
        check_disk(disk, "qcow2", None)


def test_a_file_that_ends_within_its_header_is_refused(disk: Path) -> None:
    disk.write_bytes(qcow2()[:40])
    with pytest.raises(BadImage, match="ends within its header"):
        read_header(disk)
