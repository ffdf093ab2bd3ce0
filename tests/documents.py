"""Documents as control and hosts send them, for tests."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from networks.spec import NicSpec
from vms.spec import DiskSpec, FileSpec, HostReport, ImageSpec, PowerGoal, VmRemoval, VmSpec

VM_UUID = "11111111-2222-3333-4444-555555555555"
HOST_UUID = "99999999-8888-7777-6666-555555555555"
DISK = FileSpec(url="https://example.org/disk.qcow2", sha256="d" * 64, bytes=1000)
KERNEL = FileSpec(url="https://example.org/kernel", sha256="e" * 64, bytes=300)
INITRD = FileSpec(url="https://example.org/initrd", sha256="f" * 64, bytes=200)

SPEC = VmSpec(
    vm_id=7,
    uuid=VM_UUID,
    host_uuid=HOST_UUID,
    generation=3,
    hostname="web-1",
    power=PowerGoal.RUNNING,
    cores=2,
    memory_mb=1024,
    image=ImageSpec(image_id=1, disk=DISK, format="qcow2"),
    disks=(DiskSpec(disk_id=70, index=0, size_gb=10),),
    nics=(
        NicSpec(
            nic_id=5,
            index=0,
            mac="02:00:00:00:00:07",
            mode="public_routed",
            ipv4="198.51.100.7",
            dns=("203.0.113.53",),
        ),
    ),
    ssh_keys=("ssh-ed25519 AAAA me@example.org",),
)
HOST_REPORT = HostReport(
    host="h1",
    host_uuid=HOST_UUID,
    boot_id="boot-1",
    agent_version="1",
    network_mode="vde",
    cores=1,
    memory_mb=1,
    disk_gb=1,
    disk_free_gb=1,
    accelerator="tcg",
    accelerator_reason="",
)


def a_spec(**changes: Any) -> VmSpec:
    return structs.replace(SPEC, **changes)


def a_removal(spec: VmSpec = SPEC, **changes: Any) -> VmRemoval:
    removal = VmRemoval(
        vm_id=spec.vm_id,
        uuid=spec.uuid,
        host_uuid=spec.host_uuid,
        generation=spec.generation + 1,
    )
    return structs.replace(removal, **changes)
