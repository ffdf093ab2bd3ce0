"""Counters are read as the kernel and QEMU write them, and rates never invent anything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vms.host.counters import (
    Counters,
    DiskCounters,
    NicCounters,
    ProcessCounters,
    Units,
    parse_blockstats,
    parse_net_dev,
    parse_stat,
)
from vms.host.rates import LONGEST_SECONDS, usage, usages

STAT = (
    "4242 (qemu (1) x86) S 1 4242 4242 0 -1 4194560 20480 0 12 0 250 50 7 9 20 0 5 0"
    " 987654 600000000 1000 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0"
)
NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop
    lo: 10 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0
cu7-0:70000 700 0 0 0 0 0 0 90000 900 0 0 0 0 0 0
"""

BEFORE = Counters(
    vm_id=7,
    name="web-1",
    memory_mb=256,
    at=1000.0,
    process=ProcessCounters(pid=42, started=99, cpu_seconds=10.0, memory_bytes=1 << 20),
    disks={0: DiskCounters(reads=100, writes=200, read_bytes=4096, written_bytes=8192)},
    nics={0: NicCounters(packets_in=1, packets_out=2, bytes_in=3, bytes_out=4)},
)
AFTER = Counters(
    vm_id=7,
    name="web-1",
    memory_mb=256,
    at=1010.0,
    process=ProcessCounters(pid=42, started=99, cpu_seconds=15.0, memory_bytes=2 << 20),
    disks={0: DiskCounters(reads=200, writes=200, read_bytes=14096, written_bytes=8192)},
    nics={0: NicCounters(packets_in=11, packets_out=22, bytes_in=1003, bytes_out=4)},
)


def test_a_process_is_read_whatever_its_name_is() -> None:
    found = parse_stat(STAT, Units(ticks_per_second=100, page_bytes=4096))
    assert found == ProcessCounters(4242, 987654, cpu_seconds=3.0, memory_bytes=4096000)


def test_what_a_tap_receives_is_what_its_guest_sent() -> None:
    tap = parse_net_dev(NET_DEV)["cu7-0"]
    assert (tap.packets_out, tap.bytes_out) == (700, 70000)
    assert (tap.packets_in, tap.bytes_in) == (900, 90000)


def test_only_the_guests_own_disks_are_read() -> None:
    stats = {"rd_operations": 1, "wr_operations": 2, "rd_bytes": 3, "wr_bytes": 4}
    answer = [
        {"node-name": "disk0", "stats": stats},
        {"node-name": "disk12", "stats": stats},
        {"node-name": "disk0-file", "stats": stats},
        {"node-name": "seed", "stats": stats},
        {"stats": stats},
    ]
    assert set(parse_blockstats(answer)) == {0, 12}


def test_rates_are_per_second_and_cpu_is_in_percent_of_one_core() -> None:
    found = usage(BEFORE, AFTER)
    assert found is not None
    assert (found.seconds, found.cpu, found.memory_bytes) == (10.0, 50.0, 2 << 20)
    assert (found.disk_iops_read, found.disk_iops_write) == (10.0, 0.0)
    assert (found.disk_bandwidth_read, found.network_bandwidth_in) == (1000.0, 100.0)
    assert (found.network_pps_in, found.network_pps_out) == (1.0, 2.0)


@pytest.mark.parametrize(
    "change",
    [
        {"process": replace(AFTER.process, pid=43)},  # type: ignore[type-var]
        {"process": replace(AFTER.process, started=100)},  # type: ignore[type-var]
        {"process": None},
        {"at": BEFORE.at},
        {"at": BEFORE.at + LONGEST_SECONDS + 1},
    ],
)
def test_another_qemu_or_an_odd_interval_starts_over(change: dict[str, Any]) -> None:
    assert usage(BEFORE, replace(AFTER, **change)) is None


def test_a_counter_that_went_back_gives_no_rate() -> None:
    back = NicCounters(packets_in=0, packets_out=30, bytes_in=9, bytes_out=9)
    found = usage(BEFORE, replace(AFTER, nics={0: back}))
    assert found is not None
    assert (found.network_pps_in, found.network_pps_out) == (None, None)
    assert found.disk_iops_read == 10.0


def test_what_was_not_measured_is_not_zero() -> None:
    found = usage(BEFORE, replace(AFTER, disks=None, nics={}))
    assert found is not None
    assert (found.disk_iops_read, found.network_bandwidth_in) == (None, None)


def test_only_vms_of_both_readings_have_a_usage() -> None:
    other = replace(AFTER, vm_id=8)
    assert [one.vm_id for one in usages([BEFORE], [AFTER, other])] == [7]
