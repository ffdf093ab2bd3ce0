"""The guest `debian`: Debian 12 with the cloud kernel and cloud-init, as people know it.

It boots by itself, from extlinux on a partition that cloud-init grows with the disk. guest/ holds
the files that differ from the packages' own: cloud-init reads NoCloud only and gives the keys to
root; the initramfs finds virtio disks and nothing else.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from cloud import shell
from deploy.images import packages
from deploy.images.overlay import stage
from deploy.images.recipe import Product, Progress, Recipe

_SOURCES = Path(__file__).parent
_PACKAGES = (
    "linux-image-cloud-amd64",
    "systemd-sysv",
    "systemd-resolved",
    "systemd-timesyncd",
    "dbus",
    "udev",
    "netplan.io",
    "iproute2",
    "iputils-ping",
    "cloud-init",
    "cloud-guest-utils",
    "qemu-guest-agent",
    "openssh-server",
    "ca-certificates",
    "e2fsprogs",
    "fdisk",
    "lz4",
    "less",
    "nano",
    "procps",
)

# Of no use in a guest, or of use only where an administrator asks for it.
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "systemd-pstore.service",
)

_MASTER_BOOT_RECORD = Path("/usr/lib/EXTLINUX/gptmbr.bin")
_BOOT_CODE_BYTES = 440
_SECTOR = 512
_PARTITION_BEGIN = 2048 * _SECTOR
# At the end of the disk, for the copy of the partition table.
_RESERVED_END = 2048 * _SECTOR
# By this type systemd-repart knows which partition to grow.
_ROOT_PARTITION = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
_DISK_BYTES = 2 * 1024**3

# extlinux reads no 64-bit file system; without it one still grows to 16 TiB.
_FILE_SYSTEM = ("-t", "ext4", "-L", "root", "-O", "^64bit")
# Written whole now, so that the kernel of the guest need not finish it in the background.
_WHOLE = "lazy_itable_init=0,lazy_journal_init=0"


def _build(work: Path, progress: Progress) -> Product:
    progress("installing the packages (about a minute)")
    root, overlay = work / "root", work / "overlay"
    stage(_SOURCES / "guest", overlay)
    packages.install("apt", _PACKAGES, root, _hooks(overlay))
    progress("writing the file system")
    raw = work / "disk.raw"
    _partition(raw)
    _make_file_system(raw, root)
    progress("installing the bootloader")
    _install_bootloader(raw, work)
    progress("compressing the disk")
    _compress(raw, work / "disk.qcow2")
    return Product("disk.qcow2")


def _hooks(overlay: Path) -> list[str]:
    """mmdebstrap's options: our files are there before the packages are configured."""
    units = " ".join(_MASKED)
    return [
        f"--essential-hook=sync-in {shlex.quote(str(overlay))} /",
        "--dpkgopt=force-confold",
        f'--customize-hook=chroot "$1" systemctl mask {units}',
        '--customize-hook=chroot "$1" passwd --lock root',
        '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname',
        '--customize-hook=truncate --size 0 "$1"/etc/machine-id',
    ]


def _partition(raw: Path) -> None:
    with raw.open("wb") as stream:
        stream.truncate(_DISK_BYTES)
        stream.write(_MASTER_BOOT_RECORD.read_bytes()[:_BOOT_CODE_BYTES])
    table = (
        "label: gpt\n"
        f"start={_PARTITION_BEGIN // _SECTOR}, size={_partition_bytes() // _SECTOR}, "
        f'type={_ROOT_PARTITION}, name=root, attrs="LegacyBIOSBootable"\n'
    )
    shell.run(["sfdisk", "--quiet", raw], input=table, timeout=30)


def _partition_bytes() -> int:
    return _DISK_BYTES - _PARTITION_BEGIN - _RESERVED_END


def _make_file_system(raw: Path, root: Path) -> None:
    extended = f"offset={_PARTITION_BEGIN},{_WHOLE}"
    size = f"{_partition_bytes() // 1024}k"
    shell.run(["mke2fs", "-q", *_FILE_SYSTEM, "-E", extended, "-d", root, raw, size], timeout=300)


def _install_bootloader(raw: Path, work: Path) -> None:
    mountpoint = work / "mnt"
    mountpoint.mkdir()
    script = [_SOURCES / "install-bootloader", raw, str(_PARTITION_BEGIN), mountpoint]
    shell.run(packages.contained([str(part) for part in script]), timeout=60)


def _compress(raw: Path, target: Path) -> None:
    how = ["-c", "-o", "compression_type=zstd", "-W", "-m", "8"]
    shell.run(["qemu-img", "convert", *how, "-f", "raw", "-O", "qcow2", raw, target], timeout=600)


RECIPE = Recipe(
    guest="debian",
    name="debian-12",
    description="Debian 12",
    os_flavor="debian",
    os_version="12",
    variant="apt",
    packages=_PACKAGES,
    sources=_SOURCES,
    build=_build,
    needs_root=True,
)
