"""A host under test: its own network namespace, its own directories, and reports on a list."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from msgspec import structs
from pyroute2 import netns

from cloud import shell
from deploy.images import GuestImage
from deploy.images.image import ImageFile
from deploy.lab import Lab
from networks.spec import ForwardSpec, NetworkRemoval, NetworkReport, NetworkSpec
from tests.documents import a_removal, a_spec
from vms.drift.spec import HostInventory
from vms.host import bridging, converge, inbox, qemu
from vms.host.host import Host
from vms.host.monitor import Monitor
from vms.host.outbox import Outbox
from vms.spec import (
    FileSpec,
    HostReport,
    ImageReport,
    ImageSpec,
    UnchangedReport,
    UsageReport,
    VmReport,
    VmSpec,
)

BOOT_SECONDS = 60.0
UP = b"cumulet-micro: up"


def until(condition: Callable[[], object], what: str, *, seconds: float = 60.0) -> float:
    """Wait until the condition holds; answers after how many seconds it did."""
    began = time.monotonic()
    while not condition():
        passed = time.monotonic() - began
        assert passed < seconds, f"after {passed:.1f} s still not: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


def image_spec(image: GuestImage) -> ImageSpec:
    return ImageSpec(
        image_id=1,
        disk=file_spec(image.disk),
        format="qcow2",
        kernel=file_spec(image.kernel) if image.kernel else None,
        initrd=file_spec(image.initrd) if image.initrd else None,
        cmdline=image.cmdline or "",
    )


def file_spec(file: ImageFile) -> FileSpec:
    return FileSpec(url=f"file://{file.file}", sha256=file.sha256, bytes=file.bytes)


@dataclass
class World:
    """`reports` are those of VMs, in order; the broker takes nothing while `broker_away`.

    `number`: of the host in its lab, from 1.
    """

    host: Host
    lab: Lab
    image: ImageSpec
    key: Path
    reports: list[VmReport] = field(default_factory=list)
    image_reports: list[ImageReport] = field(default_factory=list)
    heartbeats: list[HostReport] = field(default_factory=list)
    usage_reports: list[UsageReport] = field(default_factory=list)
    network_reports: list[NetworkReport] = field(default_factory=list)
    inventories: list[HostInventory] = field(default_factory=list)
    unchanged_reports: list[UnchangedReport] = field(default_factory=list)
    broker_away: bool = False
    number: int = 1

    @property
    def namespace(self) -> str:
        return self.lab.host(self.number)

    @property
    def guests_uid(self) -> int:
        assert self.host.owner
        return self.host.owner.uid

    def look_again(self, spec: VmSpec) -> VmReport:
        """A new agent finds the guest."""
        again = Host.open(self.host.config)
        assert again.uuid == self.host.uuid
        converge.converge(again, spec.vm_id, self.send)
        return self.reports[-1]

    def become_bridged(self) -> None:
        """The operator has set CUMULET_HOST_BRIDGE=on; the lab must be the test's own."""
        self.host = Host.open(replace(self.host.config, bridge=True))
        bridging.ensure(self.host)

    def uuid(self, number: int) -> str:
        """This host's own: guests of another run of the tests must not be taken for its."""
        return str(uuid5(UUID(self.host.uuid), f"server {number}"))

    def spec(self, **changes: Any) -> VmSpec:
        """A micro guest of this host."""
        basis = {
            "uuid": self.uuid(7),
            "host_uuid": self.host.uuid,
            "image": self.image,
            "cores": 1,
            "memory_mb": 256,
            "ssh_keys": (self.key.with_suffix(".pub").read_text().strip(),),
        }
        return a_spec(**{**basis, **changes})

    def ensure(self, spec: VmSpec) -> VmReport:
        """Hand the document in; the last report, which may come from a monitor that is at it."""
        inbox.ensure(self.host, spec, self.send)
        until(lambda: self.reports, "a report")
        return self.reports[-1]

    def remove(self, spec: VmSpec, **changes: Any) -> VmReport:
        inbox.remove(self.host, a_removal(spec, **changes), self.send)
        return self.reports[-1]

    def tell(self, document: NetworkSpec | NetworkRemoval) -> NetworkReport:
        """Hand the document of a network in; the last report about one."""
        inbox.network(self.host, document, self.hear, self.send)
        return self.network_reports[-1]

    def send(self, report: VmReport) -> bool:
        if not self.broker_away:
            self.reports.append(report)
        return not self.broker_away

    def boot(self, **changes: Any) -> VmSpec:
        """Start a guest and wait until its userspace is up."""
        spec = self.spec(**changes)
        report = self.ensure(spec)
        assert report.converged, report
        self.wait_for_boots(spec, 1)
        return spec

    def wait_for_boots(self, spec: VmSpec, count: int) -> None:
        """Until the guest came up for the `count`th time in its present QEMU."""
        console = self.host.paths.vm(spec.vm_id).console
        until(
            lambda: console.exists() and console.read_bytes().count(UP) >= count,
            f"guest #{spec.vm_id} came up {count} times",
            seconds=BOOT_SECONDS,
        )

    def process(self, spec: VmSpec) -> qemu.Process | None:
        return qemu.find(spec.uuid, self.host.paths.vm(spec.vm_id))

    def ssh(self, spec: VmSpec, command: str) -> shell.Result:
        """Run a command in the guest, from outside of its host."""
        return self.ssh_at(str(spec.nics[0].ipv4), command)

    def ssh_at(self, address: str, command: str, *, port: int = 22) -> shell.Result:
        return shell.run(
            [
                *self.lab.enter(self.lab.outside),
                *("ssh", "-q", "-p", str(port), "-i", self.key, "-o", "StrictHostKeyChecking=no"),
                *("-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10"),
                *("-o", "BatchMode=yes", f"root@{address}", command),
            ],
            timeout=60,
            ok=(0, 255),
        )

    def outside(self, *command: str, ok: range = range(1)) -> str:
        """What a tool says in the outside namespace."""
        inside = [*self.lab.enter(self.lab.outside), *command]
        return shell.run(inside, timeout=60, ok=ok).stdout

    def seen(self, *command: str) -> str:
        """What a tool says inside of the host's namespace."""
        return shell.run([*self.lab.enter(self.namespace), *command], timeout=15).stdout

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and those it starts, work in the host's namespace."""
        netns.pushns(self.namespace)
        try:
            yield
        finally:
            netns.popns()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A monitor runs beside the test."""
        outbox = Outbox(
            self.send,
            self._unchanged,
            self._beat,
            self._image,
            self._usage,
            self.hear,
            self._count,
        )
        ready = threading.Event()
        loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

        async def serve() -> None:
            task = asyncio.ensure_future(Monitor(self.host, outbox, usage_seconds=0.5).run())
            loops.append((asyncio.get_running_loop(), task))
            ready.set()
            await asyncio.wait([task])

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        ready.wait()
        try:
            until(self.host.paths.bell.exists, "the monitor listens")
            yield
        finally:
            loop, task = loops[0]
            loop.call_soon_threadsafe(task.cancel)
            thread.join()

    def _beat(self, report: HostReport) -> bool:
        if not self.broker_away:
            self.heartbeats.append(report)
        return not self.broker_away

    def _unchanged(self, report: UnchangedReport) -> bool:
        if not self.broker_away:
            self.unchanged_reports.append(report)
        return not self.broker_away

    def _image(self, report: ImageReport) -> bool:
        if not self.broker_away:
            self.image_reports.append(report)
        return not self.broker_away

    def _usage(self, report: UsageReport) -> bool:
        if not self.broker_away:
            self.usage_reports.append(report)
        return not self.broker_away

    def _count(self, inventory: HostInventory) -> bool:
        if not self.broker_away:
            self.inventories.append(inventory)
        return not self.broker_away

    def hear(self, report: NetworkReport) -> bool:
        if not self.broker_away:
            self.network_reports.append(report)
        return not self.broker_away

    def told(self, spec: VmSpec) -> VmReport:
        """The last report of one VM."""
        return [report for report in self.reports if report.vm_id == spec.vm_id][-1]

    def reported(self, **facts: Any) -> bool:
        """Whether the last report of all says all this."""
        return bool(self.reports) and all(
            getattr(self.reports[-1], name) == value for name, value in facts.items()
        )


def second(spec: VmSpec) -> VmSpec:
    """Another VM beside `spec`."""
    first = spec.nics[0]
    if first.mode == "user":  # each of them is alone in a network of its own
        reached = {"forwards": (ForwardSpec("tcp", 30009, 22),)}
    else:
        reached = {"ipv4": "198.51.100.9"}
    nic = structs.replace(first, nic_id=9, mac="02:00:00:00:00:09", **reached)
    return structs.replace(spec, vm_id=9, uuid=str(uuid5(UUID(spec.uuid), "second")), nics=(nic,))
