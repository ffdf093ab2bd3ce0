"""How this host's guests are connected: by links of the kernel, or in user mode.

Everything that makes, looks at or counts a VM's NICs asks `of(host)`, so that nothing else has to
know which kind of host it is on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from networks.host.addresses import Network
from networks.spec import NicReport, NicSpec, Presence
from vms.host.counters import NicCounters
from vms.host.host import Host
from vms.host.kernel_links import KernelLinks
from vms.host.netdevs import Netdev
from vms.host.paths import VmPaths
from vms.host.vde_plugs import VdePlugs
from vms.spec import VmSpec

# What a VM's NICs have carried since they were made, by their index.
Count = Callable[[VmSpec], Mapping[int, NicCounters]]


class Wiring(Protocol):
    """The NICs of one host's VMs. What `ensure` and `remove` do may be repeated.

    `cards`: what QEMU calls NICs that the document has no more. All but `netdevs` raise
    CumuletError, and `ensure`, `remove`, `counting` also OSError.
    """

    def presence(self, spec: VmSpec) -> Presence:
        """How much of what the document says is there, in front of a QEMU that need not run."""

    def ensure(self, spec: VmSpec) -> None:
        """Make it so; a guest that runs notices nothing but the difference."""

    def remove(self, paths: VmPaths, known: Sequence[Network]) -> None:
        """Leave nothing of the VM, nor of what led `known` networks to it."""

    def cut(self, spec: VmSpec, cards: Sequence[str]) -> None:
        """Nothing passes any more, though the guest has them still."""

    def withdraw(self, spec: VmSpec, cards: Sequence[str]) -> None:
        """The guest has let them go: leave nothing of them."""

    def netdevs(self, nic: NicSpec, paths: VmPaths) -> list[Netdev]:
        """What QEMU is told."""

    def counting(self) -> Count:
        """Look once, at all that is there."""

    def reports(self, spec: VmSpec) -> tuple[NicReport, ...]:
        """What was seen at the VM's NICs."""


def of(host: Host) -> Wiring:
    return KernelLinks(host) if host.routes_networks else VdePlugs(host)
