"""The wire contract between control and hosts: what a VM must be, and what a host saw.

Control sends `VmSpec` (the whole desired document, never a change to it) or `VmRemoval`;
a host answers with `VmReport`, `UnchangedReport`, `HostReport`, `ImageReport` and `UsageReport`.
Pure, no Django.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from cloud.wire import (
    MOST_STEPS,
    WIRE_VERSION,
    BootId,
    Cause,
    Failure,
    Generation,
    Moment,
    RowId,
    StepReport,
    Uuid,
    Version,
)
from networks.spec import (
    Cidr,
    Endpoint,
    HostName,
    IpAddress,
    NicReport,
    NicSpec,
    Port,
    WireguardKey,
    check_addresses,
    check_endpoints,
    check_networks,
)

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Hostname = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,126}[A-Za-z0-9])?\Z")]
Serial = Annotated[int, Meta(ge=0, le=2**53 - 1)]
# One line of any script: the comment of a key is its owner's own words.
SSH_KEY_LENGTH: Final = 16384
PublicKey = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+\Z", max_length=SSH_KEY_LENGTH)
]
Amount = Annotated[float, Meta(ge=0, le=1e15)]
# Of anything that a host has, as PostgreSQL's integers hold it.
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
# More VMs than any host can run.
MAX_VMS: Final = 4096
# So many things that belong to no VM are told of; more are seen on the host itself.
MOST_LEFTOVERS: Final = 50
# Public networks that are led to a TAP.
MOST_RANGES: Final = 64
MOST_PROBLEMS: Final = 20
PROBLEM_LENGTH: Final = 1000
# A host with less free on its disk takes neither servers nor images; in GiB.
LEAST_FREE_GB: Final = 1
DiskFormat = Literal["qcow2", "raw"]


class PowerGoal(StrEnum):
    """What the user wants the power state to become."""

    RUNNING = "running"
    OFF = "off"
    SHUTDOWN = "shutdown"  # press the power button, then wait for the guest


class Power(StrEnum):
    """What a host saw. UNKNOWN is an answer of its own: it never means OFF."""

    RUNNING = "running"
    OFF = "off"
    UNKNOWN = "unknown"


class FileSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file that a host downloads once and keeps under the name of its checksum."""

    url: Annotated[str, Meta(pattern=r"^(https?://|file:///)[!-~]+\Z", max_length=2048)]
    sha256: Sha256
    bytes: Annotated[int, Meta(ge=1)]


class ImageSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A base image. With a kernel it boots directly, without one by its own boot loader."""

    image_id: RowId
    disk: FileSpec
    format: DiskFormat
    kernel: FileSpec | None = None
    initrd: FileSpec | None = None
    cmdline: Annotated[str, Meta(pattern=r"^[ -~]*\Z", max_length=1024)] = ""

    @property
    def files(self) -> tuple[FileSpec, ...]:
        return tuple(part for part in (self.disk, self.kernel, self.initrd) if part)


class DiskSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A disk of the VM; index 0 is an overlay on the base image. `size_gb` is in GiB."""

    disk_id: RowId
    index: Annotated[int, Meta(ge=0, le=15)]
    size_gb: Annotated[int, Meta(ge=1, le=65536)]


class VmSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything a host needs to make one VM as it should be.

    `generation` grows with every change; a host refuses lower ones. `reset_serial` and
    `reboot_serial` count the resets and reboots ever asked for: the host acts when they grow
    while the guest runs, and a fresh start satisfies both. `provisioned`: it was whole at least
    once, so a disk that is not there is lost, and no empty one may be made in its place.
    """

    vm_id: RowId
    uuid: Uuid
    host_uuid: Uuid
    generation: Generation
    hostname: Hostname
    power: PowerGoal
    cores: Annotated[int, Meta(ge=1, le=255)]
    memory_mb: Annotated[int, Meta(ge=64, le=16 * 1024 * 1024)]
    image: ImageSpec
    disks: Annotated[tuple[DiskSpec, ...], Meta(min_length=1, max_length=16)]
    nics: Annotated[tuple[NicSpec, ...], Meta(max_length=8)]
    ssh_keys: tuple[PublicKey, ...] = ()
    user_data: Annotated[str, Meta(max_length=32 * 1024)] = ""
    root_password_hash: Annotated[str, Meta(pattern=r"^\$[ -~]{10,200}\Z")] | None = None
    reset_serial: Serial = 0
    reboot_serial: Serial = 0
    provisioned: bool = False
    cause: Cause | None = None
    version: Version = WIRE_VERSION


class VmRemoval(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The VM must be gone: process, disks, links, files. A tombstone stays on the host."""

    vm_id: RowId
    uuid: Uuid
    host_uuid: Uuid
    generation: Generation
    cause: Cause | None = None
    version: Version = WIRE_VERSION


class ImageFetch(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The image must be in the host's store, whether or not a VM needs it yet.

    `gone`: the checksums of those of its files that no image has any more. If there are any, it
    must not be fetched, and they must go, but for what something on the host still needs.
    """

    host_uuid: Uuid
    image: ImageSpec
    gone: Annotated[tuple[Sha256, ...], Meta(max_length=3)] = ()
    version: Version = WIRE_VERSION


class VmReport(Struct, frozen=True, omit_defaults=True):
    """What the host saw of one VM after it converged, or when something happened to it.

    `generation` is the newest document the host holds, `converged` whether it is fully
    applied. `seq` grows with every report of this VM, so an older one is recognised.
    `guest_halted`: the guest switched itself off under this generation, and stays off.
    `at` is Unix time in seconds, for people only; nothing is decided by it. `accepted_at`: when
    the host stored this generation. `steps`: those that control may not have heard of yet;
    `cause`: that of the document, if the report is about carrying it out.
    """

    vm_id: RowId
    uuid: Uuid
    host_uuid: Uuid
    generation: Generation
    seq: Serial
    present: bool
    power: Power
    converged: bool
    boot_id: BootId
    at: Moment
    guest_halted: bool = False
    button_pressed: bool = False
    failure: Failure | None = None
    accepted_at: Moment | None = None
    steps: Annotated[tuple[StepReport, ...], Meta(max_length=MOST_STEPS)] = ()
    cause: Cause | None = None
    nics: Annotated[tuple[NicReport, ...], Meta(max_length=8)] = ()
    version: Version = WIRE_VERSION


class SeenVm(Struct, frozen=True, omit_defaults=True):
    """A VM that is as its last report said, which had this `seq` and was delivered."""

    vm_id: RowId
    uuid: Uuid
    seq: Serial


class SeenNetwork(Struct, frozen=True, omit_defaults=True):
    """A network that is here whole, as was told of this generation."""

    network_id: RowId
    generation: Generation


class UnchangedReport(Struct, frozen=True, omit_defaults=True):
    """All that a host has and has nothing new to say of, told once a minute.

    A host of before this document sends a whole report of each instead, which does as well; a
    control of before it drops it, and asks by itself once what it knows is too old.
    """

    host_uuid: Uuid
    vms: Annotated[tuple[SeenVm, ...], Meta(max_length=MAX_VMS)] = ()
    networks: Annotated[tuple[SeenNetwork, ...], Meta(max_length=MAX_VMS)] = ()
    version: Version = WIRE_VERSION


class Problem(Struct, frozen=True, omit_defaults=True):
    """Something that a host lacks, with the command that mends it in `message`."""

    code: Annotated[str, Meta(max_length=64)]
    message: Annotated[str, Meta(max_length=PROBLEM_LENGTH)]


class HostReport(Struct, frozen=True, omit_defaults=True):
    """A heartbeat: who the host is and what it has. Memory in MiB, disk in GiB.

    `leftovers`: what its network holds beyond its VMs, in words. `tunnel_key`: by which other
    hosts know it in the mesh; `tunnel_endpoint`: where they reach it, None behind NAT.

    `forward_ip` and `forward_ports` (first and last): where ports of guests in user mode are
    reached, None if it has no such guests. `public_ranges`: what is led to the TAP that root
    prepared for it. `cables`: it can lay cables; `cable_endpoint`: where it accepts them, None
    behind NAT.
    """

    host: HostName
    host_uuid: Uuid
    boot_id: BootId
    agent_version: Annotated[str, Meta(max_length=32)]
    network_mode: Annotated[str, Meta(max_length=16)]
    cores: Count
    memory_mb: Count
    disk_gb: Count
    disk_free_gb: Count
    accelerator: Literal["kvm", "tcg"]
    accelerator_reason: Annotated[str, Meta(max_length=4000)]
    uplink_ip: IpAddress | None = None
    leftovers: Annotated[
        tuple[Annotated[str, Meta(max_length=4000)], ...], Meta(max_length=MOST_LEFTOVERS)
    ] = ()
    tunnel_key: WireguardKey | None = None
    tunnel_endpoint: Endpoint | None = None
    forward_ip: IpAddress | None = None
    forward_ports: tuple[Port, Port] | None = None
    public_ranges: Annotated[tuple[Cidr, ...], Meta(max_length=MOST_RANGES)] = ()
    cables: bool = False
    cable_endpoint: Endpoint | None = None
    problems: Annotated[tuple[Problem, ...], Meta(max_length=MOST_PROBLEMS)] = ()
    version: Version = WIRE_VERSION

    def __post_init__(self) -> None:
        check_addresses(self.uplink_ip, self.forward_ip)
        check_networks(*self.public_ranges)
        check_endpoints(self.tunnel_endpoint, self.cable_endpoint)


class ImageReport(Struct, frozen=True, omit_defaults=True):
    """How far a host is with one image. `progress` in percent.

    `gone`: nothing is left of what control wanted removed of it.
    """

    host_uuid: Uuid
    image_id: RowId
    sha256: Sha256
    ready: bool
    progress: Annotated[int, Meta(ge=0, le=100)]
    failure: Failure | None = None
    gone: bool = False
    version: Version = WIRE_VERSION


class Usage(Struct, frozen=True, omit_defaults=True):
    """What one VM used over the last `seconds`: disk and NIC of index 0, rates per second.

    `cpu` in percent of one core. None: it could not be measured, which is not 0.
    """

    vm_id: RowId
    seconds: Annotated[float, Meta(gt=0, le=86400)]
    cpu: Amount
    memory_bytes: Annotated[int, Meta(ge=0, le=2**53 - 1)]
    disk_iops_read: Amount | None = None
    disk_iops_write: Amount | None = None
    disk_bandwidth_read: Amount | None = None
    disk_bandwidth_write: Amount | None = None
    network_pps_in: Amount | None = None
    network_pps_out: Amount | None = None
    network_bandwidth_in: Amount | None = None
    network_bandwidth_out: Amount | None = None


class UsageReport(Struct, frozen=True, omit_defaults=True):
    """What all VMs of a host that run used lately. `at` is Unix time in seconds."""

    host_uuid: Uuid
    at: Moment
    usages: Annotated[tuple[Usage, ...], Meta(max_length=MAX_VMS)]
    version: Version = WIRE_VERSION
