"""`vms.host.wiring` where the agent may make links: a TAP for each NIC, with its rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from networks.host import nics
from networks.host.addresses import Network
from networks.spec import NicReport, NicSpec, Presence
from vms.host import bridging, guestagent, leases, netdevs, networks
from vms.host.counters import NET_DEV, NicCounters, parse_net_dev
from vms.host.host import Host
from vms.host.netdevs import Netdev
from vms.host.paths import VmPaths
from vms.spec import VmSpec


class KernelLinks:
    def __init__(self, host: Host) -> None:
        self._host = host

    def presence(self, spec: VmSpec) -> Presence:
        if not spec.nics:
            taps = self._paths(spec).taps
            return Presence.PART if nics.any_exists(taps) else Presence.NONE
        return nics.presence(self._host.taps(spec), self._host.surroundings)

    def ensure(self, spec: VmSpec) -> None:
        if any(nic.mode == "public_bridged" for nic in spec.nics):
            bridging.require(self._host)
        networks.require(self._host, spec)
        # First, because links that are complete are not looked into again.
        leases.serve(self._host, spec)
        nics.ensure_nics(self._host.taps(spec), self._host.surroundings)

    def remove(self, paths: VmPaths, known: Sequence[Network]) -> None:
        """What exists is asked of the kernel, not of a document."""
        leases.forget(self._host, paths.taps)
        nics.remove_nics(paths.taps, known, self._host.surroundings)

    def cut(self, spec: VmSpec, cards: Sequence[str]) -> None:
        nics.cut(self._unlinked(spec, cards))

    def withdraw(self, spec: VmSpec, cards: Sequence[str]) -> None:
        unlinked = self._unlinked(spec, cards)
        leases.forget(self._host, unlinked)
        nics.remove_nics(unlinked, (), self._host.surroundings)

    def netdevs(self, nic: NicSpec, paths: VmPaths) -> list[Netdev]:
        return netdevs.tap(nic, paths)

    def counting(self) -> Callable[[VmSpec], Mapping[int, NicCounters]]:
        # Of this thread's namespace, which is where the TAPs are.
        links = parse_net_dev(NET_DEV.read_text())

        def count(spec: VmSpec) -> dict[int, NicCounters]:
            taps = {nic.index: self._paths(spec).tap(nic.index) for nic in spec.nics}
            return {index: links[tap] for index, tap in taps.items() if tap in links}

        return count

    def reports(self, spec: VmSpec) -> tuple[NicReport, ...]:
        agent = self._paths(spec).guest_agent
        return nics.reports(self._host.taps(spec), lambda nic: guestagent.addresses(agent, nic.mac))

    def _paths(self, spec: VmSpec) -> VmPaths:
        return self._host.paths.vm(spec.vm_id)

    def _unlinked(self, spec: VmSpec, cards: Sequence[str]) -> list[str]:
        """The interfaces of these cards that no NIC of the document has taken over."""
        kept = {nic.index for nic in spec.nics}
        indexes = [netdevs.index_of(card) for card in cards]
        return [self._paths(spec).tap(index) for index in indexes if index not in kept]
