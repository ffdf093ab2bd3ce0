"""What a server used in the last hour, as the charts of its page."""

from __future__ import annotations

from datetime import datetime, timedelta

from cloud.admin.chart import Chart, Line
from cloud.admin.display import byte_size
from vms.models import VM, UsageSample

_SPAN = timedelta(hours=1)
_CPU, _MEMORY = "cpu", "memory_bytes"


def charts(vm: VM, now: datetime) -> list[Chart]:
    """One query; nothing if the server was not measured in the last hour."""
    since = now - _SPAN
    samples = list(UsageSample.objects.filter(vm=vm, at__gt=since).order_by("at"))
    if not samples:
        return []

    def line(label: str, column: str) -> Line:
        values = [(sample.at, getattr(sample, column)) for sample in samples]
        known = [(at, float(value)) for at, value in values if value is not None]
        points = [((at - since) / _SPAN, value) for at, value in known]
        return Line(label, points, _words(column, known[-1][1]) if known else "unknown")

    return [
        Chart("CPU", [line("used", _CPU)], most=100.0 * vm.cores),
        Chart("Memory", [line("held", _MEMORY)], most=vm.memory_mb * 2.0**20),
        Chart(
            "Disk", [line("read", "disk_bandwidth_read"), line("written", "disk_bandwidth_write")]
        ),
        Chart(
            "Network", [line("in", "network_bandwidth_in"), line("out", "network_bandwidth_out")]
        ),
    ]


def _words(column: str, value: float) -> str:
    if column == _CPU:
        return f"{value:.0f} %"
    return byte_size(round(value)) + ("" if column == _MEMORY else "/s")
