"""What a VM has used since its QEMU started: counters, and how the kernel's and QEMU's words tell
them.

`vms.host.meter` reads them, `vms.host.rates` makes rates of two readings. Directions are the
guest's own. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Of the calling thread's network namespace; proc(5).
NET_DEV = Path("/proc/thread-self/net/dev")

_DISK = re.compile(r"disk([0-9]+)\Z")


@dataclass(frozen=True)
class DiskCounters:
    reads: int
    writes: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class NicCounters:
    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True)
class ProcessCounters:
    """`pid` and `started` (clock ticks since boot) tell one QEMU from the next."""

    pid: int
    started: int
    cpu_seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Counters:
    """One VM at the moment `at`, in seconds of the monotonic clock.

    `process` None: no QEMU. `disks` None: QEMU is silent. Disks and NICs by their index.
    """

    vm_id: int
    name: str
    memory_mb: int
    at: float
    process: ProcessCounters | None
    disks: Mapping[int, DiskCounters] | None
    nics: Mapping[int, NicCounters]


@dataclass(frozen=True)
class Units:
    """What the kernel counts in."""

    ticks_per_second: int
    page_bytes: int


def parse_stat(text: str, units: Units) -> ProcessCounters:
    """/proc/PID/stat; its second field is in parentheses and may hold anything. See proc(5)."""
    pid = int(text.split(" ", 1)[0])
    fields = text.rpartition(")")[2].split()
    utime, stime, started, pages = (int(fields[number]) for number in (11, 12, 19, 21))
    cpu_seconds = (utime + stime) / units.ticks_per_second
    return ProcessCounters(pid, started, cpu_seconds, pages * units.page_bytes)


def parse_net_dev(text: str) -> dict[str, NicCounters]:
    """/proc/net/dev by interface. What a TAP receives is what its guest sent."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, numbers = line.partition(":")
        received_bytes, received, *_ = fields = [int(number) for number in numbers.split()]
        found[name.strip()] = NicCounters(
            packets_in=fields[9], packets_out=received, bytes_in=fields[8], bytes_out=received_bytes
        )
    return found


def parse_blockstats(answer: Iterable[Mapping[str, Any]]) -> dict[int, DiskCounters]:
    """QEMU's answer to query-blockstats; disk N is the node diskN of `vms.host.command`."""
    found = {}
    for device in answer:
        match = _DISK.match(str(device.get("node-name", "")))
        if match:
            stats = device["stats"]
            found[int(match[1])] = DiskCounters(
                reads=stats["rd_operations"],
                writes=stats["wr_operations"],
                read_bytes=stats["rd_bytes"],
                written_bytes=stats["wr_bytes"],
            )
    return found
