"""The lab's hosts: an agent and a monitor in each host's namespace.

Used by `deploy.cloud`. A lab host is what a production host is, but for its namespace and for
sharing the machine's cores and memory with the others.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy import accounts, control, lab
from deploy.lab import Lab
from deploy.state import Instance
from deploy.supervise import SYSTEM_PATH, Program

# What guests may have of the machine's memory; the rest is for services and the page cache.
_GUEST_SHARE = 0.75


@dataclass(frozen=True)
class LabHost:
    """Host `number` (from 1) of `total`; `bridge`: its uplink is in a bridge with its guests."""

    instance: Instance
    number: int
    total: int
    bridge: bool = False

    @property
    def name(self) -> str:
        return f"h{self.number}"

    @property
    def agent(self) -> str:
        return f"agent-{self.name}"

    @property
    def monitor(self) -> str:
        return f"monitor-{self.name}"

    @property
    def state(self) -> Path:
        return self.instance.data / "hosts" / self.name

    @property
    def run(self) -> Path:
        return self.instance.run / self.name

    @property
    def namespace(self) -> Path:
        return Lab(self.instance.id).path(Lab(self.instance.id).host(self.number))

    @property
    def environment(self) -> dict[str, str]:
        """What cloud/hostconfig.py reads."""
        memory_mb = int(psutil.virtual_memory().total / 2**20 * _GUEST_SHARE / self.total)
        return {
            "CUMULET_BUNDLE": str(control.bundle(self.instance, self.name)),
            "CUMULET_HOST_STATE": str(self.state),
            "CUMULET_HOST_RUN": str(self.run),
            "CUMULET_HOST_UPLINK": lab.UPLINK,
            "CUMULET_HOST_QEMU_USER": accounts.QEMU,
            "CUMULET_HOST_CORES": str(os.cpu_count() or 1),
            "CUMULET_HOST_MEMORY_MB": str(memory_mb),
            "CUMULET_HOST_BRIDGE": "on" if self.bridge else "off",
            "CUMULET_HOST_NETNS": str(self.namespace),
            "CUMULET_LOG_FORMAT": "json",
            "CUMULET_LOG_PATHS": str(self.instance.log),
        }

    def programs(self, release: Path) -> list[Program]:
        """Restarted when the bundle or the namespace is another one."""
        identity = f"{self.namespace.stat().st_ino} {_broker_url(self.instance, self.name)}"
        env = {**self.environment, "HOME": "/root", "PATH": SYSTEM_PATH, "LANG": "C.UTF-8"}
        modules = {self.agent: "cloud.agent", self.monitor: "vms.host.monitor"}
        return [
            Program(
                name=name,
                argv=[sys.executable, "-m", module],
                directory=release,
                env=env,
                netns=self.namespace,
                configuration=identity,
            )
            for name, module in modules.items()
        ]


def lab_hosts(instance: Instance, total: int) -> list[LabHost]:
    return [LabHost(instance, number, total) for number in range(1, total + 1)]


def _broker_url(instance: Instance, host: str) -> str:
    url: str = json.loads(control.bundle(instance, host).read_text())["broker_url"]
    return url
