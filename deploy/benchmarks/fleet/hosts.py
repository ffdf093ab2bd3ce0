"""Plays hosts: what their monitors would send, when they would send it, under their own names."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from kombu import Connection, Producer, Queue
from kombu.exceptions import OperationalError

from cloud.broker import broker_user
from cloud.hostconfig import HEARTBEAT_SECONDS, report_key
from cloud.wire import encode
from deploy.benchmarks.fleet.names import BOOT_ID, FIRST_SEQ
from vms.spec import (
    HostReport,
    Power,
    SeenNetwork,
    SeenVm,
    UnchangedReport,
    Usage,
    UsageReport,
    VmReport,
)

# Those of vms.host.monitor and vms.host.meter, which tell everything every second sweep.
TELL_ALL_SECONDS = 60.0
USAGE_SECONDS = 60.0
_THREADS = 4


@dataclass
class PlayedHost:
    """One host with its servers (id, uuid, generation) and networks (id, generation)."""

    name: str
    uuid: str
    vms: Sequence[tuple[int, str, int]]
    networks: Sequence[tuple[int, int]]
    producer: Producer | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def heartbeat(self) -> HostReport:
        return HostReport(
            host=self.name,
            host_uuid=self.uuid,
            boot_id=BOOT_ID,
            agent_version="1",
            network_mode="routed",
            cores=64,
            memory_mb=512 * 1024,
            disk_gb=8192,
            disk_free_gb=8000 - int(time.time() / 20) % 50,
            accelerator="kvm",
            accelerator_reason="",
        )

    def unchanged(self) -> UnchangedReport:
        """What its monitor says once a minute, of servers that were told of with the inventory."""
        return UnchangedReport(
            host_uuid=self.uuid,
            vms=tuple(SeenVm(vm_id, uuid, FIRST_SEQ) for vm_id, uuid, _ in self.vms),
            networks=tuple(SeenNetwork(*network) for network in self.networks),
        )

    def vm_report(self, vm_id: int, uuid: str, generation: int, **facts: Any) -> VmReport:
        """What it says of a server that is as it should be, or what else `facts` say."""
        values = {
            "seq": int(time.time() * 1000),
            "present": True,
            "power": Power.RUNNING,
            "converged": True,
            "boot_id": BOOT_ID,
            "at": time.time(),
        }
        return VmReport(
            vm_id=vm_id,
            uuid=uuid,
            host_uuid=self.uuid,
            generation=generation,
            **{**values, **facts},
        )

    def usage(self) -> UsageReport:
        usages = tuple(
            Usage(vm_id=vm_id, seconds=USAGE_SECONDS, cpu=3.0, memory_bytes=2**28)
            for vm_id, _, _ in self.vms
        )
        return UsageReport(host_uuid=self.uuid, at=time.time(), usages=usages)


class Fleet:
    """All played hosts. As a context manager they are connected; `play` makes them speak."""

    def __init__(self, hosts: Sequence[PlayedHost], url_of: Callable[[str], str]) -> None:
        self.hosts = hosts
        self._url_of = url_of
        self._app = Celery("fleet", fixups=[], set_as_current=False)
        self._app.conf.update(
            # A host declares nothing, see cloud.agent.
            task_queues=[Queue("host.fleet", no_declare=True)],
            task_default_queue="host.fleet",
            task_create_missing_queues=False,
            task_ignore_result=True,
        )
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._connections: list[Connection] = []
        self.sent = 0
        self.late = 0.0

    def __enter__(self) -> Fleet:
        for host in self.hosts:
            # Without the client's heartbeats: they are the same for every broker.
            connection = Connection(
                self._url_of(host.name), heartbeat=0, transport_options={"confirm_publish": True}
            )
            self._connections.append(connection)
            host.producer = Producer(connection.channel(), auto_declare=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        for connection in self._connections:
            connection.close()

    def play(self) -> None:
        """From now on every host speaks as a monitor does, all of them evenly spread."""
        for number in range(_THREADS):
            thread = threading.Thread(target=self._play, args=(self.hosts[number::_THREADS],))
            self._threads.append(thread)
            thread.start()

    @property
    def intended(self) -> float:
        """Reports a second, if no host is late."""
        with_servers = sum(1 for host in self.hosts if host.vms)
        return (
            len(self.hosts) / HEARTBEAT_SECONDS
            + len(self.hosts) / TELL_ALL_SECONDS
            + with_servers / USAGE_SECONDS
        )

    def send(self, host: PlayedHost, task: str, document: Any) -> None:
        """Publish a report; one that the broker refuses is left out, as a host's agent does."""
        with host.lock, suppress(OperationalError):
            self._app.send_task(
                task,
                args=[encode(document)],
                exchange="reports",
                routing_key=report_key(host.name),
                user_id=broker_user(host.name),
                producer=host.producer,
                retry=False,
                ignore_result=True,
            )
            self.sent += 1

    def _play(self, hosts: Sequence[PlayedHost]) -> None:
        began = time.monotonic()
        due: list[tuple[float, int, int]] = []
        kinds = (
            (HEARTBEAT_SECONDS, self._beat),
            (TELL_ALL_SECONDS, self._tell_all),
            (USAGE_SECONDS, self._tell_usage),
        )
        for number in range(len(hosts)):
            for kind, (interval, _) in enumerate(kinds):
                share = (number + 0.3 * kind) / len(hosts)
                due.append((began + interval * share, number, kind))
        heapq.heapify(due)
        while not self._ended.is_set():
            at, number, kind = due[0]
            wait = at - time.monotonic()
            if wait > 0:
                self._ended.wait(wait)
                continue
            self.late = max(self.late, -wait)
            interval, act = kinds[kind]
            act(hosts[number])
            heapq.heapreplace(due, (at + interval, number, kind))

    def _beat(self, host: PlayedHost) -> None:
        self.send(host, "reports.host", host.heartbeat())

    def _tell_all(self, host: PlayedHost) -> None:
        self.send(host, "reports.unchanged", host.unchanged())

    def _tell_usage(self, host: PlayedHost) -> None:
        if host.vms:
            self.send(host, "reports.usage", host.usage())
