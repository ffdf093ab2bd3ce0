"""Contender "shell loop": what a person types who wants a guest and nothing else.

The lower bound: no API, no database, no address, no record of anything. The guest has the
cloud's machine type, processor, memory, kernel and disk, and QEMU's own user-mode network.
"""

from __future__ import annotations

import time
from pathlib import Path

from cloud import shell
from deploy import accounts
from deploy.benchmarks.guest import Guest, Sample, end_guests, wait_for_userspace
from vms.host.command import TCG_CPU

# $1 base, $2 base's format, $3 size, $4 directory, $5 accelerator, $6 CPU, $7 cores, $8 memory,
# $9 kernel, ${10} initrd, ${11} command line
_SCRIPT = """
set -e
qemu-img create -q -f qcow2 -b "$1" -F "$2" "$4/disk.qcow2" "$3"
exec qemu-system-x86_64 -daemonize -nodefaults -display none -pidfile "$4/pid" \
    -machine q35 -accel "$5" -cpu "$6" -smp "$7" -m "$8" \
    -kernel "$9" -initrd "${10}" -append "${11}" \
    -drive "file=$4/disk.qcow2,format=qcow2,if=virtio" \
    -nic user,model=virtio-net-pci -serial "file:$4/console.log"
"""


class ShellLoop:
    """One turn of the loop. Process up: `-daemonize` has returned, so the machine is built."""

    name = "shell loop"

    def __init__(self, guest: Guest, directory: Path, env: dict[str, str]) -> None:
        self._guest = guest
        self._directory = accounts.own(directory, accounts.QEMU)
        self._env = env

    def measure(self) -> Sample:
        argv = ["bash", "-c", _SCRIPT, "bash", *self._arguments()]
        began = time.monotonic()
        try:
            shell.run(argv, timeout=60, env=self._env, user=accounts.QEMU)
            process_up = time.monotonic() - began
            userspace_up = wait_for_userspace(self._directory / "console.log") - began
        finally:
            end_guests(self._directory)
            for name in ("disk.qcow2", "console.log", "pid"):
                (self._directory / name).unlink(missing_ok=True)
        return Sample(process_up, userspace_up)

    def _arguments(self) -> list[str]:
        guest, disk = self._guest, self._guest.image.disk
        storage = [str(disk.file), disk.format, f"{guest.disk_gb}G", str(self._directory)]
        cpu = TCG_CPU if guest.accelerator == "tcg" else "host"
        machine = [guest.accelerator, cpu, str(guest.cores), f"{guest.memory_mb}M"]
        return [
            *storage,
            *machine,
            str(guest.kernel),
            str(guest.initrd),
            guest.image.cmdline or "",
        ]
