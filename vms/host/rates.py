"""Two readings of a VM's counters → what it used in between. Pure.

A counter that went back belongs to something new, so it gives no rate: never a negative or a huge
one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vms.host.counters import Counters
from vms.spec import Usage

# Of a longer gap (the machine slept, the monitor hung) an average says nothing.
LONGEST_SECONDS = 300.0


def usages(before: Iterable[Counters], after: Iterable[Counters]) -> tuple[Usage, ...]:
    """Of all VMs whose same QEMU is in both readings."""
    earlier = {reading.vm_id: reading for reading in before}
    found = (usage(earlier[one.vm_id], one) for one in after if one.vm_id in earlier)
    return tuple(one for one in found if one)


def usage(before: Counters, after: Counters) -> Usage | None:
    """None if QEMU was restarted in between, or does not run."""
    old, new, seconds = before.process, after.process, after.at - before.at
    if old is None or new is None or not 0 < seconds <= LONGEST_SECONDS:
        return None
    if (old.pid, old.started) != (new.pid, new.started):
        return None
    disk = _rates(_first(before.disks), _first(after.disks), seconds)
    nic = _rates(_first(before.nics), _first(after.nics), seconds)
    return Usage(
        vm_id=after.vm_id,
        seconds=seconds,
        cpu=100 * max(new.cpu_seconds - old.cpu_seconds, 0.0) / seconds,
        memory_bytes=new.memory_bytes,
        disk_iops_read=disk.get("reads"),
        disk_iops_write=disk.get("writes"),
        disk_bandwidth_read=disk.get("read_bytes"),
        disk_bandwidth_write=disk.get("written_bytes"),
        network_pps_in=nic.get("packets_in"),
        network_pps_out=nic.get("packets_out"),
        network_bandwidth_in=nic.get("bytes_in"),
        network_bandwidth_out=nic.get("bytes_out"),
    )


def _first(devices: Mapping[int, object] | None) -> dict[str, int]:
    """The counters of device 0 by name; nothing if it was not seen."""
    device = (devices or {}).get(0)
    return dict(vars(device)) if device else {}


def _rates(before: dict[str, int], after: dict[str, int], seconds: float) -> dict[str, float]:
    """Per second; nothing at all if any counter went back, as they belong together."""
    if not before or any(after.get(name, -1) < count for name, count in before.items()):
        return {}
    return {name: (after[name] - count) / seconds for name, count in before.items()}
