"""Contender "virsh create": Debian's libvirt with a daemon of the benchmark's own.

A session daemon of an unprivileged user, in directories that go with it, so a libvirt of the
machine is never touched. It is the quicker kind: a system daemon also makes control groups and
mount namespaces. What is measured of it is `virsh create` alone; making the overlay is not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from xml.etree import ElementTree as ET

import psutil

from cloud import shell
from deploy import accounts, processes
from deploy.benchmarks.guest import Guest, Sample, end_guests, wait_for_userspace, wait_until
from deploy.supervise import SYSTEM_PATH

_DOMAIN = "bench"
_URI = "qemu:///session"
# A /dev/kvm that is there and hangs every guest: libvirt would try it again before each start.
# A device without permissions counts as none. $1: an empty file, then the daemon's command.
_WITHOUT_KVM = """
set -e
if [ -e /dev/kvm ]; then mount --bind "$1" /dev/kvm; fi
shift
exec "$@"
"""


class Libvirt:
    """`virsh create` and its domain. Process up: virsh has returned, so the guest runs."""

    name = "virsh create"

    def __init__(self, guest: Guest, directory: Path, env: dict[str, str]) -> None:
        self._guest = guest
        self._directory = accounts.own(directory, accounts.QEMU)
        # One directory for all: a Unix socket path ends at 107 bytes.
        places = ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
        self._env = {**dict.fromkeys(places, str(directory)), "PATH": SYSTEM_PATH, **env}
        self._xml = directory / "domain.xml"
        self._disk = directory / "disk.qcow2"
        self._console = directory / "console.log"

    @contextmanager
    def running(self) -> Iterator[Libvirt]:
        """The daemon, with its knowledge of QEMU's abilities asked for beforehand."""
        config = accounts.own(self._directory / "libvirt", accounts.QEMU)
        (config / "qemu.conf").write_text('stdio_handler = "file"\n')
        self._xml.write_text(domain(self._guest, self._disk, self._console))
        daemon = psutil.Process(shell.spawn(self._daemon(), log=self._log).pid)
        try:
            socket = config / "libvirt-sock"
            wait_until(socket.exists, f"a libvirtd that answers (see {self._log})", seconds=20)
            self._virsh("domcapabilities", "--virttype", self._kind)
            yield self
        finally:
            processes.end([daemon], patience=10)
            end_guests(self._directory)

    def measure(self) -> Sample:
        size = f"{self._guest.disk_gb}G"
        base = self._guest.image.disk
        backing = ["-b", str(base.file), "-F", base.format]
        create = ["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(self._disk), size]
        shell.run(create, timeout=30, user=accounts.QEMU)
        try:
            began = time.monotonic()
            self._virsh("create", str(self._xml))
            process_up = time.monotonic() - began
            userspace_up = wait_for_userspace(self._console) - began
        finally:
            with suppress(shell.CommandFailed):  # it was not even created
                self._virsh("destroy", _DOMAIN)
            self._disk.unlink(missing_ok=True)
            self._console.unlink(missing_ok=True)
        return Sample(process_up, userspace_up)

    @property
    def _log(self) -> Path:
        return self._directory / "libvirtd.log"

    @property
    def _kind(self) -> str:
        return "kvm" if self._guest.accelerator == "kvm" else "qemu"

    def _daemon(self) -> list[str]:
        user = ["--reuid", accounts.QEMU, "--regid", accounts.QEMU, "--clear-groups"]
        variables = [f"{name}={value}" for name, value in self._env.items()]
        libvirtd = ["env", "-i", *variables, "/usr/sbin/libvirtd", "--timeout", "0"]
        command = ["setpriv", "--pdeathsig", "TERM", *user, *libvirtd]
        if self._guest.accelerator == "kvm":
            return command
        nothing = self._directory / "no-kvm"
        nothing.touch()
        nothing.chmod(0)
        private = ["unshare", "--mount", "--propagation", "private"]
        return [*private, "sh", "-c", _WITHOUT_KVM, "sh", str(nothing), *command]

    def _virsh(self, *arguments: str) -> None:
        argv = ["virsh", "--quiet", "--connect", _URI, *arguments]
        shell.run(argv, timeout=120, env=self._env, user=accounts.QEMU)


def domain(guest: Guest, disk: Path, console: Path) -> str:
    """The guest as libvirt's XML, without what libvirt would add and the others lack."""
    root = ET.Element("domain", type="kvm" if guest.accelerator == "kvm" else "qemu")
    ET.SubElement(root, "name").text = _DOMAIN
    ET.SubElement(root, "memory", unit="MiB").text = str(guest.memory_mb)
    ET.SubElement(root, "vcpu").text = str(guest.cores)
    system = ET.SubElement(root, "os")
    ET.SubElement(system, "type", arch="x86_64", machine="q35").text = "hvm"
    ET.SubElement(system, "kernel").text = str(guest.kernel)
    ET.SubElement(system, "initrd").text = str(guest.initrd)
    ET.SubElement(system, "cmdline").text = guest.image.cmdline
    ET.SubElement(ET.SubElement(root, "features"), "acpi")
    ET.SubElement(root, "cpu", mode="maximum")
    devices = ET.SubElement(root, "devices")
    ET.SubElement(devices, "emulator").text = "/usr/bin/qemu-system-x86_64"
    drive = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(drive, "driver", name="qemu", type="qcow2")
    ET.SubElement(drive, "source", file=str(disk))
    ET.SubElement(drive, "target", dev="vda", bus="virtio")
    card = ET.SubElement(devices, "interface", type="user")
    ET.SubElement(card, "model", type="virtio")
    ET.SubElement(card, "rom", enabled="no")
    serial = ET.SubElement(devices, "serial", type="file")
    ET.SubElement(serial, "source", path=str(console))
    ET.SubElement(devices, "controller", type="usb", model="none")
    ET.SubElement(devices, "memballoon", model="none")
    return ET.tostring(root, encoding="unicode")
