"""deploy.benchmarks.libvirt: the contender's guest is the cloud's guest."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from deploy.benchmarks.errors import BenchmarkFailed
from deploy.benchmarks.guest import Guest
from deploy.benchmarks.libvirt import domain
from deploy.images.image import DiskFile, GuestImage, ImageFile

SHA = "0" * 64


def image(*, kernel: ImageFile | None) -> GuestImage:
    return GuestImage(
        name="micro",
        description="",
        os_flavor="unknown",
        os_version=None,
        architecture="x86",
        disk=DiskFile(Path("/images/disk"), SHA, 1, "qcow2", 1),
        kernel=kernel,
        initrd=ImageFile(Path("/images/initrd"), SHA, 1),
        cmdline="console=ttyS0 quiet",
    )


def xml(accelerator: str) -> ET.Element:
    guest = Guest(
        image(kernel=ImageFile(Path("/images/vmlinux"), SHA, 1)),
        cores=2,
        memory_mb=256,
        disk_gb=1,
        accelerator="kvm" if accelerator == "kvm" else "tcg",
    )
    return ET.fromstring(domain(guest, Path("/run/b/disk"), Path("/run/b/console")))


def test_the_domain_has_the_size_and_the_kernel_of_the_guest() -> None:
    seen = xml("tcg")
    assert (seen.findtext("vcpu"), seen.findtext("memory")) == ("2", "256")
    assert seen.findtext("os/kernel") == "/images/vmlinux"
    assert seen.findtext("os/cmdline") == "console=ttyS0 quiet"


@pytest.mark.parametrize(("accelerator", "kind"), [("tcg", "qemu"), ("kvm", "kvm")])
def test_the_domain_uses_the_accelerator_of_the_cloud(accelerator: str, kind: str) -> None:
    assert xml(accelerator).get("type") == kind


def test_a_guest_that_is_not_booted_directly_is_refused() -> None:
    guest = Guest(image(kernel=None), cores=1, memory_mb=256, disk_gb=1, accelerator="tcg")
    with pytest.raises(BenchmarkFailed, match="booted directly"):
        _ = guest.kernel
