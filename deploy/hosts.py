"""The hosts of a cloud on this machine: an agent and a monitor for each.

Used by `deploy.cloud`. A lab host is what a production host is, but for its namespace and for
sharing the machine's cores and memory with the others. Its agent runs as root, or without any
privilege: then the host is in user mode. A user's own host is always in user mode, and has no
namespace.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deploy import accounts, control, lab
from deploy.lab import Lab
from deploy.places import HERE
from deploy.ports import FORWARDS
from deploy.state import Instance
from deploy.supervise import SYSTEM_PATH, Program

# What guests may have of the machine's memory; the rest is for services and the page cache.
_GUEST_SHARE = 0.75
# The variable that tells which host of all a program belongs to.
RUN = "CUMULET_HOST_RUN"
# Locations: the second has hosts in user mode, and no public addresses.
LAB, DESK = "lab", "desk"


@dataclass(frozen=True)
class CloudHost:
    """Host `number` (from 1) of `total` on this machine.

    `rootless`: in user mode, because its agent has no privilege. Such hosts count for themselves,
    and their names begin with another letter.
    """

    instance: Instance
    number: int
    total: int
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
        return self.instance.log

    @property
    def bundle(self) -> Path:
        return control.bundle(self.instance, self.name)

    @property
    def environment(self) -> dict[str, str]:
        """What cloud/hostconfig.py reads."""
        memory_mb = int(psutil.virtual_memory().total / 2**20 * _GUEST_SHARE / self.total)
        return {
            "CUMULET_BUNDLE": str(self.bundle),
            "CUMULET_HOST_STATE": str(self.state),
            RUN: str(self.run),
            "CUMULET_HOST_CORES": str(os.cpu_count() or 1),
            "CUMULET_HOST_MEMORY_MB": str(memory_mb),
            "CUMULET_LOG_FORMAT": "json",
            "CUMULET_LOG_PATHS": str(self.log),
        }

    @property
    def home(self) -> Path:
        """The home directory of whoever runs its programs."""
        return Path.home()

    def prepare(self) -> None:
        """Make what its user must find; needs the join bundle."""

    def programs(self, release: Path) -> list[Program]:
        """Restarted when the bundle or what they run in is another one."""
        env = {**self.environment, "HOME": str(self.home), "PATH": SYSTEM_PATH, "LANG": "C.UTF-8"}
        modules = {self.agent: "cloud.agent", self.monitor: "vms.host.monitor"}
        return [
            Program(
                name=name,
                argv=[sys.executable, "-m", module],
                directory=release,
                env=env,
                log=self.log,
                configuration=self._identity,
                **self._standing,
            )
            for name, module in modules.items()
        ]

    @property
    def _identity(self) -> str:
        bundle = json.loads(control.bundle(self.instance, self.name).read_text())
        return str(bundle["broker_url"])

    @property
    def _standing(self) -> dict[str, Any]:
        """What a `Program` says about users and namespaces."""
        return {}


@dataclass(frozen=True)
class OwnHost(CloudHost):
    """The machine of an ordinary user, as it is."""

    @property
    def environment(self) -> dict[str, str]:
        ports, first = self.instance.ports, self.instance.forwards
        return {
            **super().environment,
            "CUMULET_HOST_FORWARD_IP": "127.0.0.1",
            "CUMULET_HOST_FORWARD_PORTS": f"{first}-{first + FORWARDS - 1}",
            "CUMULET_HOST_CABLE_PORT": str(ports.cables),
            "CUMULET_HOST_METRICS": f"127.0.0.1:{ports.metrics}",
        }

    @property
    def _standing(self) -> dict[str, Any]:
        return {"bare": True}


@dataclass(frozen=True)
class LabHost(CloudHost):
    """A host in a namespace; `bridge`: its uplink is in a bridge with its guests."""

    bridge: bool = False

    @property
    def log(self) -> Path:
        """An agent answers for its own log, and one without privileges may not read the others."""
        return self.instance.data / "logs" / self.name if self.rootless else super().log

    @property
    def bundle(self) -> Path:
        """Beside `state` where the agent may not read control's."""
        return self.state.with_name(f"{self.name}.json") if self.rootless else super().bundle

    @property
    def home(self) -> Path:
        return self.state if self.rootless else Path("/root")

    @property
    def namespace(self) -> Path:
        world = Lab(self.instance.id)
        return world.path(world.namespace(self.name))

    @property
    def environment(self) -> dict[str, str]:
        common = {
            **super().environment,
            "CUMULET_HOST_UPLINK": lab.UPLINK,
            "CUMULET_HOST_BOOT_ID": Lab(self.instance.id).boot_id(self.name),
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
        if self.rootless:
            accounts.own(self.state, accounts.ROOTLESS)
            accounts.own(self.run, accounts.ROOTLESS)
            accounts.let_read(self.log, accounts.ROOTLESS)
            accounts.write_for(self.bundle, super().bundle.read_text(), accounts.ROOTLESS)

    @property
    def _standing(self) -> dict[str, Any]:
        if self.rootless:
            return {"user": accounts.ROOTLESS, "bare": True, "netns": self.namespace}
        return {"netns": self.namespace}


def cloud_hosts(instance: Instance, hosts: int, rootless: int) -> Sequence[CloudHost]:
    """As many of both kinds as wanted, or as there were before if those are more.

    Hosts are only ever added: one that is not started is one whose guests are unknown.
    """
    if not HERE.root:
        return [OwnHost(instance, number=1, total=1, rootless=True)]
    hosts, rootless = max(hosts, _known(instance, "h")), max(rootless, _known(instance, "r"))
    total = hosts + rootless
    return [
        *(LabHost(instance, number, total) for number in range(1, hosts + 1)),
        *(LabHost(instance, number, total, rootless=True) for number in range(1, rootless + 1)),
    ]


def _known(instance: Instance, letter: str) -> int:
    bundles = control.bundle(instance, letter).parent
    return sum(1 for _ in bundles.glob(f"{letter}*.json"))
