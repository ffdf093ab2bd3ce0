"""Restarts a host of the lab as a power cut does: everything but its disk is gone.

Links, rules and routes go with the namespace, sockets and pid files with the run directory (a
tmpfs elsewhere), and the new namespace has a boot id of its own. Processes are killed, also those
in further namespaces, which the gateways of private networks have. The state directory stays.
Nothing else of the cloud takes part, so it works while control and broker are away.
"""

from __future__ import annotations

import shutil
import time
from typing import ClassVar

import psutil

from cloud.errors import CumuletError
from deploy import hosts, processes
from deploy.cloud import Cloud
from deploy.hosts import CloudHost, LabHost

_SECONDS = 10.0


class NoSuchHost(CumuletError):
    """The lab has no host of that name."""

    code: ClassVar[str] = "no_such_host"


class WillNotEnd(CumuletError):
    """Processes of a host are still there after they were killed."""

    code: ClassVar[str] = "processes_do_not_end"


def cut_power(cloud: Cloud, host: LabHost) -> None:
    """End everything on the host at once. Safe to repeat."""
    # supervisord must not start again what is killed next, and none of it has time to say goodbye.
    cloud.supervisor.halt(host.agent, host.monitor)
    _kill_all(host)
    cloud.supervisor.wait_ended(host.agent, host.monitor, seconds=_SECONDS)
    cloud.lab.remove_host(host.name)
    shutil.rmtree(host.run, ignore_errors=True)


def give_power(cloud: Cloud, host: LabHost) -> None:
    """Start the host: its network as a boot makes it, then its agent and monitor."""
    cloud.start_lab()
    host.prepare()
    programs = host.programs(cloud.release)
    cloud.supervisor.apply(programs)
    cloud.supervisor.start(*(program.name for program in programs))


def host_of(cloud: Cloud, name: str) -> LabHost:
    """The lab's host of that name; raises NoSuchHost."""
    found: dict[str, CloudHost] = {host.name: host for host in cloud.hosts}
    host = found.get(name)
    if not isinstance(host, LabHost):
        raise NoSuchHost(f"the lab has no host {name!r}: choose one of {', '.join(sorted(found))}")
    return host


def _kill_all(host: LabHost) -> None:
    """Until none is left: one that is about to fork has a child that the next look finds."""
    deadline = time.monotonic() + _SECONDS
    while found := _processes(host):
        if time.monotonic() > deadline:
            raise WillNotEnd(f"still on {host.name} after SIGKILL: {found}")
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(found, timeout=1)


def _processes(host: LabHost) -> list[psutil.Process]:
    """In its namespace, whatever their environment says, or started by its agent or monitor."""
    started = processes.marked({processes.MARK: host.instance.id, hosts.RUN: str(host.run)})
    return [*{*processes.in_namespace(host.namespace), *started}]
