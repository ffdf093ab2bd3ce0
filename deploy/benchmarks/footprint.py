"""What the cloud costs while nothing happens: memory of its hosts, processor time of control."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from deploy.cloud import Cloud


def host_memory(cloud: Cloud) -> dict[str, float]:
    """Agent and monitor of each host together, in MiB. Memory shared with others counts in part."""
    used = {}
    for host in cloud.hosts:
        trees = [_tree(cloud.supervisor.pid(name)) for name in (host.agent, host.monitor)]
        used[host.name] = sum(_proportional_kib(one.pid) for tree in trees for one in tree) / 1024
    return used


def idle_processor(cloud: Cloud, seconds: float) -> dict[str, float]:
    """Processor time of every program over the next `seconds`, in percent of one core."""
    names = [name for name, state in cloud.supervisor.states().items() if state == "RUNNING"]
    pids = {name: cloud.supervisor.pid(name) for name in names}
    before = {name: processor_seconds(pid) for name, pid in pids.items()}
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return {
        name: 100 * (processor_seconds(pid) - before[name]) / took for name, pid in pids.items()
    }


def control_programs(cloud: Cloud, programs: dict[str, float]) -> dict[str, float]:
    """Those of `programs` that are not of a host."""
    hosts = {name for host in cloud.hosts for name in (host.agent, host.monitor)}
    return {name: share for name, share in programs.items() if name not in hosts}


def _tree(pid: int) -> list[psutil.Process]:
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


def _proportional_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def processor_seconds(pid: int) -> float:
    """Of the whole tree; a child that ended counts in its parent, which waited for it."""
    total = 0.0
    for process in _tree(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
