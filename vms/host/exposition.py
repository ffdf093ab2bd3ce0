"""The host's numbers as Prometheus reads them: the machine, and each of its VMs."""

from __future__ import annotations

import os
import shutil
import time

import psutil

from cloud.families import Family, Found, exposition
from vms.host.counters import Counters
from vms.host.host import Host

_MIB = 2**20
_VM = ("vm", "name")
_DISK = (*_VM, "disk")
_NIC = (*_VM, "nic")

VM_UP = Family("cumulet_vm_up", "1 while the VM's QEMU runs.", _VM)
VM_SILENT = Family("cumulet_vm_silent", "1 while its QEMU runs and does not answer.", _VM)
VM_CPU = Family("cumulet_vm_cpu_seconds_total", "Processor time of its QEMU.", _VM)
VM_MEMORY = Family("cumulet_vm_memory_bytes", "Memory that its QEMU occupies.", _VM)
VM_MEMORY_CONFIGURED = Family(
    "cumulet_vm_memory_configured_bytes", "Memory that the guest sees.", _VM
)
VM_DISK_READS = Family("cumulet_vm_disk_reads_total", "Read operations of the guest.", _DISK)
VM_DISK_WRITES = Family("cumulet_vm_disk_writes_total", "Write operations of the guest.", _DISK)
VM_DISK_READ = Family("cumulet_vm_disk_read_bytes_total", "Bytes the guest read.", _DISK)
VM_DISK_WRITTEN = Family("cumulet_vm_disk_written_bytes_total", "Bytes the guest wrote.", _DISK)
VM_PACKETS_IN = Family("cumulet_vm_network_in_packets_total", "Packets to the guest.", _NIC)
VM_PACKETS_OUT = Family("cumulet_vm_network_out_packets_total", "Packets of the guest.", _NIC)
VM_BYTES_IN = Family("cumulet_vm_network_in_bytes_total", "Bytes to the guest.", _NIC)
VM_BYTES_OUT = Family("cumulet_vm_network_out_bytes_total", "Bytes of the guest.", _NIC)
NODE_CORES = Family("cumulet_node_cores", "Cores of the machine.")
NODE_LOAD = Family("cumulet_node_load", "Load average over one minute.")
NODE_MEMORY = Family("cumulet_node_memory_bytes", "Memory of the machine.")
NODE_MEMORY_FREE = Family("cumulet_node_memory_free_bytes", "Memory that programs can get.")
NODE_DISK = Family("cumulet_node_disk_bytes", "File system of the VMs.")
NODE_DISK_FREE = Family("cumulet_node_disk_free_bytes", "Free in the file system of the VMs.")
NODE_VMS = Family("cumulet_node_vms", "VMs that the host has documents of.")
NODE_REPORT_AGE = Family(
    "cumulet_node_report_age_seconds", "Since the broker took a heartbeat, or since the start."
)
NODE_UNSENT = Family("cumulet_node_unsent_reports", "VMs whose last report is still to be sent.")

FAMILIES = (
    *(VM_UP, VM_SILENT, VM_CPU, VM_MEMORY, VM_MEMORY_CONFIGURED),
    *(VM_DISK_READS, VM_DISK_WRITES, VM_DISK_READ, VM_DISK_WRITTEN),
    *(VM_PACKETS_IN, VM_PACKETS_OUT, VM_BYTES_IN, VM_BYTES_OUT),
    *(NODE_CORES, NODE_LOAD, NODE_MEMORY, NODE_MEMORY_FREE, NODE_DISK, NODE_DISK_FREE),
    *(NODE_VMS, NODE_REPORT_AGE, NODE_UNSENT),
)


def text(host: Host, heard_at: float, readings: list[Counters]) -> bytes:
    """`heard_at`: when the broker took the last heartbeat, on the monotonic clock.

    Blocks for a moment; call it in a thread.
    """
    found = Found(FAMILIES)
    _node(found, host, heard_at)
    found.add(NODE_VMS, len(readings))
    for reading in readings:
        _vm(found, reading)
    return exposition(found)


def _node(found: Found, host: Host, heard_at: float) -> None:
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(host.paths.state)
    found.add(NODE_CORES, os.cpu_count() or 1)
    found.add(NODE_LOAD, os.getloadavg()[0])
    found.add(NODE_MEMORY, memory.total)
    found.add(NODE_MEMORY_FREE, memory.available)
    found.add(NODE_DISK, disk.total)
    found.add(NODE_DISK_FREE, disk.free)
    found.add(NODE_REPORT_AGE, time.monotonic() - heard_at)
    found.add(NODE_UNSENT, sum(1 for _ in host.paths.unsent.iterdir()))


def _vm(found: Found, reading: Counters) -> None:
    vm = (reading.vm_id, reading.name)
    process = reading.process
    found.add(VM_UP, process is not None, *vm)
    found.add(VM_SILENT, process is not None and reading.disks is None, *vm)
    found.add(VM_MEMORY_CONFIGURED, reading.memory_mb * _MIB, *vm)
    if process:
        found.add(VM_CPU, process.cpu_seconds, *vm)
        found.add(VM_MEMORY, process.memory_bytes, *vm)
    for index, disk in (reading.disks or {}).items():
        found.add(VM_DISK_READS, disk.reads, *vm, index)
        found.add(VM_DISK_WRITES, disk.writes, *vm, index)
        found.add(VM_DISK_READ, disk.read_bytes, *vm, index)
        found.add(VM_DISK_WRITTEN, disk.written_bytes, *vm, index)
    for index, nic in reading.nics.items():
        found.add(VM_PACKETS_IN, nic.packets_in, *vm, index)
        found.add(VM_PACKETS_OUT, nic.packets_out, *vm, index)
        found.add(VM_BYTES_IN, nic.bytes_in, *vm, index)
        found.add(VM_BYTES_OUT, nic.bytes_out, *vm, index)
