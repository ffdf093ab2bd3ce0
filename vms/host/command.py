"""VmSpec → QEMU's command line. Pure: the tests compare its result word for word.

Every device is named here (`-nodefaults`), and so is every file format. Values that do not come
from a closed set pass `_value`, which doubles commas, so nothing in a document adds an option.
The machine has only what a cloud's guest uses: each device left out is boot time saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from networks.spec import NicSpec
from vms.host.netdevs import Netdev, Netdevs, card, netdev_word
from vms.host.paths import MOST_NICS, VmPaths
from vms.spec import DiskSpec, VmSpec

BINARY = "qemu-system-x86_64"
Accelerator = Literal["kvm", "tcg"]

# What a process that only plays a machine never does.
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

SLOT_PREFIX = "slot"
_SLOTS_AT = "0x10"

# Translated code of one guest, beside its memory; QEMU itself would take up to 1 GiB.
_TCG_CACHE_MB = 256

# The level that distributions are built for, with AES and a source of randomness; whatever else
# "max" has is emulated at the guest's cost, and changes with QEMU's version.
TCG_CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq,+rdrand"


def command(spec: VmSpec, paths: VmPaths, accelerator: Accelerator, netdevs: Netdevs) -> list[str]:
    """The whole argv. QEMU stays in the foreground and makes its sockets below `paths.run`."""
    return [
        *(BINARY, "-nodefaults", "-no-user-config"),
        *("-sandbox", SANDBOX),
        *_machine(spec, accelerator),
        *_lifecycle(paths),
        *(word for disk in spec.disks for word in _disk(spec, disk, paths)),
        *_seed(paths),
        *_slots(spec.nics),
        *(word for nic in spec.nics for word in _nic(nic, netdevs(nic, paths))),
        *_guest_channels(paths),
        *_direct_boot(spec, paths),
    ]


def _machine(spec: VmSpec, accelerator: Accelerator) -> list[str]:
    engine = {
        "kvm": ["-accel", "kvm", "-cpu", "host"],
        "tcg": ["-accel", f"tcg,thread=multi,tb-size={_TCG_CACHE_MB}", "-cpu", TCG_CPU],
    }
    return [
        *("-name", f"guest={_value(spec.hostname)},debug-threads=on"),
        *("-uuid", spec.uuid),
        *("-machine", "q35,hpet=off,smm=off,vmport=off,sata=off,usb=off"),
        *engine[accelerator],
        *("-smp", f"cpus={spec.cores}"),
        *("-m", f"size={spec.memory_mb}M"),
        *("-display", "none"),
        *("-rtc", "base=utc"),
        *("-boot", "menu=off,strict=on"),
        # A guest that put itself to sleep would look dead and keep its memory.
        *("-global", "ICH9-LPC.disable_s3=1"),
        *("-global", "ICH9-LPC.disable_s4=1"),
    ]


def _lifecycle(paths: VmPaths) -> list[str]:
    """A guest that switched itself off stays, paused, so that it can be asked.

    A process that is gone therefore means a crash, or that we ended it.
    """
    return [
        *("-action", "shutdown=pause"),
        *("-pidfile", str(paths.pid)),
        # A second client of one socket would hang, so commands and events have one each.
        *("-chardev", f"socket,id=commands,path={_value(paths.qmp)},server=on,wait=off"),
        *("-mon", "chardev=commands,mode=control"),
        *("-chardev", f"socket,id=events,path={_value(paths.events)},server=on,wait=off"),
        *("-mon", "chardev=events,mode=control"),
    ]


def _disk(spec: VmSpec, disk: DiskSpec, paths: VmPaths) -> list[str]:
    """Disk 0 is an overlay on the read-only base image, every other one stands alone."""
    name = f"disk{disk.index}"
    words: list[str] = []
    backing = boot = ""
    if disk.index == 0:
        base = paths.host.image(spec.image.disk.sha256)
        words += [
            *("-blockdev", f"driver=file,node-name=base-file,filename={_value(base)},read-only=on"),
            *(
                "-blockdev",
                f"driver={spec.image.format},node-name=base,file=base-file,read-only=on",
            ),
        ]
        backing, boot = ",backing=base", ",bootindex=1"
    file = _value(paths.disk(disk.index))
    return [
        *words,
        *("-blockdev", f"driver=file,node-name={name}-file,filename={file},discard=unmap"),
        *("-blockdev", f"driver=qcow2,node-name={name},file={name}-file{backing},discard=unmap"),
        *("-device", f"virtio-blk-pci,drive={name},serial=disk-{disk.disk_id}{boot}"),
    ]


def _seed(paths: VmPaths) -> list[str]:
    """Found by its label, `cidata`; a plain disk needs no driver beyond the root disk's."""
    file = _value(paths.seed)
    return [
        *("-blockdev", f"driver=file,node-name=seed-file,filename={file},read-only=on"),
        *("-blockdev", "driver=raw,node-name=seed,file=seed-file,read-only=on"),
        *("-device", "virtio-blk-pci,drive=seed,serial=seed"),
    ]


def slot(nic: NicSpec) -> str | None:
    """The port that the NIC is in; None for one that stays while the guest runs."""
    return f"{SLOT_PREFIX}{nic.index}" if nic.mode == "private" else None


def _slots(nics: tuple[NicSpec, ...]) -> list[str]:
    """A port for each NIC that may come or go: at the machine's own bus nothing can.

    Without ranges for I/O, of which a PC has few and virtio needs none.
    """
    lasting = {nic.index for nic in nics if slot(nic) is None}
    free = [index for index in range(MOST_NICS) if index not in lasting]
    return [
        word
        for function, index in enumerate(free)
        for word in (
            "-device",
            f"pcie-root-port,id={SLOT_PREFIX}{index},chassis={index + 1},io-reserve=0,"
            f"multifunction=on,addr={_SLOTS_AT}.{function}",
        )
    ]


def _nic(nic: NicSpec, netdevs: Sequence[Netdev]) -> list[str]:
    """An empty `romfile` leaves network boot out of the firmware."""
    name, port = card(nic), slot(nic)
    bus = f"bus={port}," if port else ""
    device = f"virtio-net-pci,id={name},{bus}netdev={name},mac={nic.mac}"
    return [
        *(part for netdev in netdevs for part in ("-netdev", netdev_word(netdev))),
        *("-device", f"{device},host_mtu={nic.mtu},romfile="),
    ]


def _guest_channels(paths: VmPaths) -> list[str]:
    """Randomness, the serial console, and QEMU's agent in guests that have it."""
    return [
        *("-object", "rng-random,id=rng,filename=/dev/urandom"),
        *("-device", "virtio-rng-pci,rng=rng"),
        *("-chardev", f"file,id=console,path={_value(paths.console)},append=on"),
        *("-serial", "chardev:console"),
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=agent,path={_value(paths.guest_agent)},server=on,wait=off"),
        *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
    ]


def _direct_boot(spec: VmSpec, paths: VmPaths) -> list[str]:
    image = spec.image
    if image.kernel is None:
        return []
    words = ["-kernel", str(paths.host.image(image.kernel.sha256))]
    if image.initrd:
        words += ["-initrd", str(paths.host.image(image.initrd.sha256))]
    if image.cmdline:
        words += ["-append", image.cmdline]
    return words


def _value(value: str | Path) -> str:
    return str(value).replace(",", ",,")
