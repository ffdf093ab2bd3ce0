"""The guest `micro`: Debian's cloud kernel with a busybox initramfs, booted directly.

For tests that need a guest, not a distribution: it is up about two seconds after QEMU starts
under TCG, in 128 MiB. What it does then is in guest/, beginning with guest/init. Its root is
in memory; /data, on the first virtio disk, keeps the SSH host key across boots.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cloud import shell
from deploy.images import packages
from deploy.images.kernel import load_order, unpack_kernel
from deploy.images.overlay import stage
from deploy.images.recipe import Product, Progress, Recipe

_PACKAGES = ("linux-image-cloud-amd64", "busybox-static", "dropbear-bin")
_SOURCES = Path(__file__).parent
_DISK_BYTES = 64 * 1024 * 1024

# Beyond these the kernel has built in what the guest needs (ext4, IPv6, packet sockets). guest/init
# loads the list "scsi" only where it sees such a controller: every module costs 10 ms under TCG.
_MODULES = {
    "always": (
        "virtio_pci",
        "virtio_blk",
        "virtio_net",
        "virtio_rng",
        "isofs",
        "button",
        "evdev",
    ),
    "scsi": ("virtio_scsi", "sd_mod", "sr_mod"),
}
_PROGRAMS = ("bin/busybox", "usr/sbin/dropbear", "usr/bin/dropbearkey")
_LIBRARIES = (
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libcrypt.so.1",
    "libgmp.so.10",
    "libtomcrypt.so.1",
    "libtommath.so.1",
    "libz.so.1",
)
_LIBRARY_DIRECTORIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
_EMPTY_DIRECTORIES = ("bin", "data", "dev", "mnt", "proc", "run/seed", "sbin", "sys", "tmp")


# Without the crypto self-tests 0.3 s less under TCG; and without the timer check, which sees too
# few ticks on a busy host, no kernel that goes on without its timer or not at all.
_COMMAND_LINE = "console=ttyS0 quiet panic=-1 no_timer_check cryptomgr.notests random.trust_cpu=on"


def _build(work: Path, progress: Progress) -> Product:
    progress("fetching the kernel, busybox and dropbear")
    archive = work / "packages.tar"
    packages.install("extract", _PACKAGES, archive)
    debian = work / "debian"
    debian.mkdir()
    wanted = ["./boot", "./bin", "./usr/bin", "./usr/sbin", "./lib", "./usr/lib"]
    shell.run(
        ["tar", "--extract", "--no-same-owner", "--file", archive, "--directory", debian, *wanted],
        timeout=120,
    )
    progress("unpacking the kernel")
    unpack_kernel(_only(debian / "boot", "vmlinuz-*"), work / "vmlinux")
    progress("making the initramfs")
    root = work / "root"
    _populate(root, debian)
    _pack(root, work / "initrd")
    progress("making the disk")
    _make_disk(work)
    return Product("disk.qcow2", kernel="vmlinux", initrd="initrd", cmdline=_COMMAND_LINE)


def _populate(root: Path, debian: Path) -> None:
    for name in _EMPTY_DIRECTORIES:
        (root / name).mkdir(parents=True)
    (root / "root/.ssh").mkdir(parents=True, mode=0o700)
    for name in _PROGRAMS:
        shutil.copy(debian / name, root / "bin")
    for name in _LIBRARIES:
        _copy_library(name, root, debian)
    _copy_modules(root, debian)
    stage(_SOURCES / "guest", root)
    applets = shell.run([root / "bin/busybox", "--list"], timeout=10).stdout.split()
    for applet in applets:
        link = root / "bin" / applet
        if not link.exists():
            link.symlink_to("busybox")


def _copy_library(name: str, root: Path, debian: Path) -> None:
    for place in _LIBRARY_DIRECTORIES:
        source = debian / place / name
        if source.exists():
            target = root / ("lib64" if name.startswith("ld-") else "lib/x86_64-linux-gnu")
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / name)
            return
    raise FileNotFoundError(f"no package brings {name}")


def _copy_modules(root: Path, debian: Path) -> None:
    files = {path.stem.replace("-", "_"): path for path in debian.glob("lib/modules/**/*.ko")}
    place = root / "modules"
    place.mkdir()
    content = {name: path.read_bytes() for name, path in files.items()}
    loaded: set[str] = set()
    for label, wanted in _MODULES.items():
        order = [name for name in load_order(content, wanted) if name not in loaded]
        loaded.update(order)
        for name in order:
            shutil.copy(files[name], place / f"{name}.ko")
        (place / label).write_text("".join(f"{name}.ko\n" for name in order))


def _pack(root: Path, target: Path) -> None:
    names = [".", *sorted(str(path.relative_to(root)) for path in root.rglob("*"))]
    shell.run(
        ["cpio", "--create", "--format=newc", "--owner=0:0", "--quiet", "--file", target],
        cwd=root,
        input="\n".join(names) + "\n",
        timeout=60,
    )


def _make_disk(work: Path) -> None:
    raw = work / "disk.raw"
    with raw.open("wb") as stream:
        stream.truncate(_DISK_BYTES)
    # Written whole now, so that the kernel of the guest need not finish it in the background.
    whole = "lazy_itable_init=0,lazy_journal_init=0"
    shell.run(["mke2fs", "-q", "-t", "ext4", "-L", "data", "-E", whole, raw], timeout=60)
    shell.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, work / "disk.qcow2"], timeout=60
    )


def _only(directory: Path, pattern: str) -> Path:
    found = list(directory.glob(pattern))
    if len(found) != 1:
        raise FileNotFoundError(f"{directory} has {len(found)} files like {pattern}, not one")
    return found[0]


RECIPE = Recipe(
    guest="micro",
    name="micro",
    description="Micro (busybox, for tests)",
    os_flavor="unknown",
    os_version=None,
    variant="extract",
    packages=_PACKAGES,
    sources=_SOURCES,
    build=_build,
)
