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
# Locations: the second has hosts in user mode, and no public addresses.
LAB, DESK = "lab", "desk"


@dataclass(frozen=True)
class LabHost:
    """Host `number` (from 1) of `total`; `bridge`: its uplink is in a bridge with its guests.

    `rootless`: agent and monitor run as a user without any privilege. Such hosts count for
    themselves, and begin with another letter.
    """

    instance: Instance
    number: int
    total: int
    bridge: bool = False
    rootless: bool = False

    @property
    def name(self) -> str:
        return f"{'r' if self.rootless else 'h'}{self.number}"

    @property
    def location(self) -> str:
        return DESK if self.rootless else LAB

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
    def log(self) -> Path:
        return self.instance.data / "logs" / self.name if self.rootless else self.instance.log

    @property
    def bundle(self) -> Path:
        """Where the agent reads it: beside `state` where it may not read control's."""
        if self.rootless:
            return self.state.with_name(f"{self.name}.json")
        return control.bundle(self.instance, self.name)

    @property
    def namespace(self) -> Path:
        world = Lab(self.instance.id)
        return world.path(world.namespace(self.name))

    @property
    def environment(self) -> dict[str, str]:
        """What cloud/hostconfig.py reads."""
        memory_mb = int(psutil.virtual_memory().total / 2**20 * _GUEST_SHARE / self.total)
        common = {
            "CUMULET_BUNDLE": str(self.bundle),
            "CUMULET_HOST_STATE": str(self.state),
            "CUMULET_HOST_RUN": str(self.run),
            "CUMULET_HOST_UPLINK": lab.UPLINK,
            "CUMULET_HOST_CORES": str(os.cpu_count() or 1),
            "CUMULET_HOST_MEMORY_MB": str(memory_mb),
            "CUMULET_LOG_FORMAT": "json",
            "CUMULET_LOG_PATHS": str(self.log),
        }
        if self.rootless:
            return common
        return {
            **common,
            "CUMULET_HOST_QEMU_USER": accounts.QEMU,
            "CUMULET_HOST_BRIDGE": "on" if self.bridge else "off",
            "CUMULET_HOST_NETNS": str(self.namespace),
        }

    def prepare(self) -> None:
        """What its user must find; needs the join bundle."""
        if self.rootless:
            accounts.own(self.state, accounts.ROOTLESS)
            accounts.own(self.run, accounts.ROOTLESS)
            accounts.let_read(self.log, accounts.ROOTLESS)
            bundle = control.bundle(self.instance, self.name).read_text()
            accounts.write_for(self.bundle, bundle, accounts.ROOTLESS)

    def programs(self, release: Path) -> list[Program]:
        """Restarted when the bundle or the namespace is another one."""
        identity = f"{self.namespace.stat().st_ino} {_broker_url(self.instance, self.name)}"
        home = str(self.state) if self.rootless else "/root"
        env = {**self.environment, "HOME": home, "PATH": SYSTEM_PATH, "LANG": "C.UTF-8"}
        modules = {self.agent: "cloud.agent", self.monitor: "vms.host.monitor"}
        return [
            Program(
                name=name,
                argv=[sys.executable, "-m", module],
                directory=release,
                user=accounts.ROOTLESS if self.rootless else None,
                env=env,
                netns=self.namespace,
                bare=self.rootless,
                log=self.log,
                configuration=identity,
            )
            for name, module in modules.items()
        ]


def lab_hosts(instance: Instance, hosts: int, rootless: int = 0) -> list[LabHost]:
    """As many of both kinds as wanted, or as there were before if those are more.

    Hosts are only ever added: one that is not started is one whose guests are unknown.
    """
    hosts, rootless = max(hosts, _known(instance, "h")), max(rootless, _known(instance, "r"))
    total = hosts + rootless
    return [
        *(LabHost(instance, number, total) for number in range(1, hosts + 1)),
        *(LabHost(instance, number, total, rootless=True) for number in range(1, rootless + 1)),
    ]


def _known(instance: Instance, letter: str) -> int:
    bundles = control.bundle(instance, letter).parent
    return sum(1 for _ in bundles.glob(f"{letter}*.json"))


def _broker_url(instance: Instance, host: str) -> str:
    url: str = json.loads(control.bundle(instance, host).read_text())["broker_url"]
    return url
