"""Disks that real tools made, and real ones with a few bytes changed: `qemu-img` is the judge."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud import shell
from vms.host import imagecheck
from vms.host.imagecheck import WrongFormat, check_disk
from vms.host.qcow2 import BadImage, Encrypted, HasHiddenParts, ReferencesFiles

pytestmark = pytest.mark.faults


def create(path: Path, *options: str, format: str = "qcow2", size: str = "8M") -> Path:
    shell.run(["qemu-img", "create", "-q", "-f", format, *options, path, size], timeout=30)
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk"


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-o", "compat=0.10"),
        ("-o", "cluster_size=512"),
        ("-o", "cluster_size=2M"),
        ("-o", "compression_type=zstd"),
        ("-o", "extended_l2=on"),
        ("-o", "lazy_refcounts=on"),
        ("-o", "preallocation=metadata"),
        ("-o", "refcount_bits=1"),
    ],
    ids=lambda options: options[-1] if options else "as it is",
)
def test_an_honest_disk_of_any_make_is_taken(disk: Path, options: tuple[str, ...]) -> None:
    create(disk, *options)
    check_disk(disk, "qcow2", None)


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_a_compressed_disk_is_taken(tmp_path: Path, disk: Path, kind: str) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(b"\xeb\x63" + b"cloud" * 400_000)
    convert = ["qemu-img", "convert", "-c", "-o", f"compression_type={kind}"]
    shell.run([*convert, "-f", "raw", "-O", "qcow2", raw, disk], timeout=30)
    assert disk.stat().st_size < raw.stat().st_size / 2
    check_disk(disk, "qcow2", None)


def a_backing_file(disk: Path) -> None:
    create(disk, "-u", "-b", "/etc/passwd", "-F", "raw")


def a_json_backing_file(disk: Path) -> None:
    name = json.dumps({"driver": "raw", "file": {"driver": "file", "filename": "/etc/shadow"}})
    create(disk, "-u", "-b", f"json:{name}", "-F", "raw")


def a_backing_file_on_the_network(disk: Path) -> None:
    create(disk, "-u", "-b", "nbd://127.0.0.1:10809/x", "-F", "raw")


def a_backing_file_without_a_format(disk: Path) -> None:
    create(disk, "-u", "-b", "/etc/passwd", "-o", "compat=0.10", "-F", "raw")
    patch(disk, 104, bytes(64))


def a_data_file(disk: Path) -> None:
    create(disk, "-o", f"data_file={disk.with_name('data')},data_file_raw=on")


def a_key(disk: Path) -> None:
    secret = ["--object", "secret,id=key,data=none"]
    options = "encrypt.format=aes,encrypt.key-secret=key"
    shell.run(
        ["qemu-img", "create", "-q", *secret, "-f", "qcow2", "-o", options, disk, "8M"], timeout=60
    )


def a_snapshot(disk: Path) -> None:
    create(disk)
    shell.run(["qemu-img", "snapshot", "-c", "before", disk], timeout=30)


def a_bitmap(disk: Path) -> None:
    create(disk)
    shell.run(["qemu-img", "bitmap", "--add", "-f", "qcow2", disk, "changes"], timeout=30)


def a_wrong_size(disk: Path) -> None:
    create(disk)
    patch(disk, 24, struct.pack(">Q", 2**62))


def a_size_that_its_table_does_not_hold(disk: Path) -> None:
    create(disk)
    patch(disk, 24, struct.pack(">Q", 2**45))


def a_table_without_an_end(disk: Path) -> None:
    create(disk)
    patch(disk, 36, struct.pack(">I", 2**32 - 1))


def clusters_of_any_size(disk: Path) -> None:
    create(disk)
    patch(disk, 20, struct.pack(">I", 63))


def an_unknown_feature(disk: Path) -> None:
    create(disk)
    patch(disk, 72, struct.pack(">Q", 1 << 62))


def an_unknown_compression(disk: Path) -> None:
    create(disk, "-o", "compression_type=zstd")
    patch(disk, 104, b"\x77")


def half_of_it(disk: Path) -> None:
    create(disk)
    disk.write_bytes(disk.read_bytes()[: 1 << 16])


def patch(disk: Path, offset: int, content: bytes) -> None:
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(content)


TRICKS: list[tuple[Callable[[Path], None], type[BadImage]]] = [
    (a_backing_file, ReferencesFiles),
    (a_json_backing_file, ReferencesFiles),
    (a_backing_file_on_the_network, ReferencesFiles),
    (a_backing_file_without_a_format, ReferencesFiles),
    (a_data_file, ReferencesFiles),
    (a_key, Encrypted),
    (a_snapshot, HasHiddenParts),
    (a_bitmap, HasHiddenParts),
    (a_wrong_size, BadImage),
    (a_size_that_its_table_does_not_hold, BadImage),
    (a_table_without_an_end, BadImage),
    (clusters_of_any_size, BadImage),
    (an_unknown_feature, BadImage),
    (an_unknown_compression, BadImage),
    (half_of_it, BadImage),
]


@pytest.mark.parametrize(("trick", "error"), TRICKS, ids=[one.__name__ for one, _ in TRICKS])
def test_a_disk_with_a_trick_is_refused(
    disk: Path, trick: Callable[[Path], None], error: type[BadImage]
) -> None:
    trick(disk)
    with pytest.raises(error) as refused:
        check_disk(disk, "qcow2", None)
    assert not refused.value.retryable


@pytest.mark.parametrize(
    ("limit", "value"), [("_INFO_LIMITS", ("--cpu=0",)), ("_INFO_SECONDS", 0.0)]
)
def test_a_disk_that_qemu_img_does_not_get_through_is_refused_for_good(
    disk: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: object
) -> None:
    """It is killed for its use of the processor, or takes too long: it would again."""
    monkeypatch.setattr(imagecheck, limit, value)
    with pytest.raises(BadImage, match="make a new one") as refused:
        check_disk(create(disk), "qcow2", None)
    assert not refused.value.retryable


@pytest.mark.parametrize("format", ["vmdk", "vpc", "vhdx", "vdi", "qed", "parallels", "qcow"])
@pytest.mark.parametrize("said", ["raw", "qcow2"])
def test_a_disk_of_another_format_is_not_taken_for_what_it_is_said_to_be(
    disk: Path, format: str, said: str
) -> None:
    create(disk, format=format)
    with pytest.raises(BadImage):
        check_disk(disk, said, None)  # type: ignore[arg-type]


def test_a_vmdk_that_names_a_file_of_the_host_is_refused(disk: Path) -> None:
    """Of a text of a few lines, which a tool that guesses formats follows."""
    disk.write_text(
        "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"
        'createType="monolithicFlat"\nRW 8 FLAT "/etc/shadow" 0\n'.ljust(4096)
    )
    with pytest.raises(WrongFormat, match="vmdk"):
        check_disk(disk, "raw", None)


def test_a_fixed_vpc_disk_that_shows_at_its_end_alone_is_refused(disk: Path) -> None:
    create(disk, "-o", "subformat=fixed,force_size=on", format="vpc")
    with pytest.raises(WrongFormat, match="vpc"):
        check_disk(disk, "raw", None)
