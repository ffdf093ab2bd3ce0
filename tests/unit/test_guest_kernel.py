"""The kernel of a direct boot: where its payload lies, in which order its modules load."""

from __future__ import annotations

import struct

import pytest

from deploy.images.errors import MalformedKernel
from deploy.images.kernel import load_order, payload


def module(*depends: str) -> bytes:
    return b"\x7fELF\0license=GPL\0depends=" + ",".join(depends).encode() + b"\0name=x\0"


def bzimage(content: bytes, *, setup_sectors: int = 2, version: int = 0x20F) -> bytes:
    header = bytearray(512 * (setup_sectors + 1))
    header[0x1F1] = setup_sectors
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", header, 0x206, version)
    struct.pack_into("<II", header, 0x248, 16, len(content))
    return bytes(header) + b"\0" * 16 + content + b"trailer"


def test_a_module_comes_after_everything_it_depends_on() -> None:
    modules = {
        "virtio": module(),
        "virtio_ring": module(),
        "virtio_pci": module("virtio_ring", "virtio"),
        "unused": module(),
    }
    assert load_order(modules, ["virtio_pci"]) == ["virtio_ring", "virtio", "virtio_pci"]


def test_a_module_that_several_need_is_loaded_once() -> None:
    modules = {"a": module("c"), "b": module("c"), "c": module()}
    assert load_order(modules, ["a", "b"]) == ["c", "a", "b"]


def test_dashes_in_a_dependency_mean_the_same_as_underscores() -> None:
    modules = {"top": module("scsi-common"), "scsi_common": module()}
    assert load_order(modules, ["top"]) == ["scsi_common", "top"]


def test_a_module_that_the_kernel_does_not_have_is_an_error_that_names_it() -> None:
    with pytest.raises(MalformedKernel, match="virtio_gone"):
        load_order({}, ["virtio_gone"])


def test_the_payload_is_found_through_the_boot_header() -> None:
    assert payload(bzimage(b"packed kernel")) == b"packed kernel"


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(b"\x7fELF" + bytes(2048), id="no bzImage"),
        pytest.param(bzimage(b"", version=0x207), id="header too old to say where"),
    ],
)
def test_a_kernel_of_another_format_is_refused(image: bytes) -> None:
    with pytest.raises(MalformedKernel):
        payload(image)
