"""`vms.host.wiring` on a host in user mode: NICs are plugged into switches, or led outside.

A cable that hangs loose, because its switch ended or for whatever reason, is seen at the switch,
which tells what is plugged in, and plugged in anew behind the guest's NIC, which does not move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from typing import ClassVar

import structlog

from cloud.errors import CumuletError
from networks.host import outlets, switch_console, switches
from networks.host.addresses import Network
from networks.host.switch_console import SwitchSilent
from networks.host.switches import Switch
from networks.host.traffic import Traffic
from networks.spec import NicReport, NicSpec, Presence
from vms.host import netdevs, networks, qemu, qmp, user_mode
from vms.host.counters import NicCounters
from vms.host.host import Host
from vms.host.netdevs import Netdev
from vms.host.paths import VmPaths
from vms.host.qmp import Command
from vms.host.user_mode import Near
from vms.spec import VmSpec

log = structlog.get_logger(__name__)


class NoNetworkPrivilege(CumuletError):
    """A NIC is to have what only a host with CAP_NET_ADMIN can give."""

    code: ClassVar[str] = "network_mode_unsupported"


class VdePlugs:
    def __init__(self, host: Host) -> None:
        self._host = host

    def presence(self, spec: VmSpec) -> Presence:
        return self.looking()(spec)

    def looking(self) -> Callable[[VmSpec], Presence]:
        """`presence`, for which each switch and the host itself are looked at once for all VMs.

        Without a QEMU there are only the ways outside; switches are not the VM's.
        """
        sight = _Sight(self._host)

        def seen(spec: VmSpec) -> Presence:
            paths = self._paths(spec)
            process = qemu.find(spec.uuid, paths)
            if process is None:
                made = any(path.exists() for path in paths.outlets)
                return Presence.PART if made else Presence.NONE
            complete = all(sight.is_complete(spec, nic, process.pid) for nic in spec.nics)
            return Presence.ALL if complete else Presence.PART

        return seen

    def ensure(self, spec: VmSpec) -> None:
        for nic in spec.nics:
            _check(nic)
        networks.require(self._host, spec)
        paths = self._paths(spec)
        for nic in spec.nics:
            if nic.mode == "user":
                wanted = user_mode.orders(self._host, spec, nic, user_mode.near(self._host))
                outlets.ensure(paths.outlet(nic.index), wanted, self._host.paths.outlet_log)
            elif nic.mode == "public_routed":
                user_mode.ensure_tap_switch(self._host)
        process = qemu.find(spec.uuid, paths)
        if process:
            self._plug(spec, process.pid)

    def remove(self, paths: VmPaths, known: Sequence[Network]) -> None:
        """What led `known` networks here is root's, and stays."""
        for outlet in paths.outlets:
            outlets.remove(outlet)

    def cut(self, spec: VmSpec, cards: Sequence[str]) -> None:
        for card in cards:
            self._unplug(self._paths(spec), card)

    def withdraw(self, spec: VmSpec, cards: Sequence[str]) -> None:
        self.cut(spec, cards)

    def netdevs(self, nic: NicSpec, paths: VmPaths) -> list[Netdev]:
        return netdevs.vde(nic, paths)

    def counting(self) -> Callable[[VmSpec], Mapping[int, NicCounters]]:
        plugs = cache(_plugs)

        def seen(nic: NicSpec, paths: VmPaths, process: qemu.Process | None) -> Traffic | None:
            if nic.mode == "user":
                return outlets.traffic(paths.outlet(nic.index))
            return plugs(netdevs.switch_place(nic, paths)).get(process.pid) if process else None

        def count(spec: VmSpec) -> dict[int, NicCounters]:
            paths = self._paths(spec)
            process = qemu.named(spec.uuid, paths)
            found = {nic.index: seen(nic, paths, process) for nic in spec.nics}
            return {index: _counters(one) for index, one in found.items() if one}

        return count

    def reports(self, spec: VmSpec) -> tuple[NicReport, ...]:
        paths = self._paths(spec)
        found = []
        for nic in spec.nics:
            user = nic.mode == "user"
            dropped = outlets.dropped(paths.outlet(nic.index)) if user else {}
            found.append(NicReport(nic.index, dropped=dropped))
        return tuple(found)

    def _paths(self, spec: VmSpec) -> VmPaths:
        return self._host.paths.vm(spec.vm_id)

    def _plug(self, spec: VmSpec, pid: int) -> None:
        """Cables of a QEMU that runs; raises SwitchSilent or QmpFailure."""
        paths = self._paths(spec)
        for nic in spec.nics:
            if nic.mode == "user":
                continue
            if pid in switches.plugged(Switch(netdevs.switch_place(nic, paths))):
                continue
            self._unplug(paths, netdevs.card(nic))
            cable = netdevs.cable(nic, paths)
            qmp.ask(paths.qmp, *(Command("netdev_add", one) for one in cable))
            log.info("cable plugged in", vm=spec.vm_id, nic=nic.index)

    def _unplug(self, paths: VmPaths, card: str) -> None:
        """As far as there is a cable; raises QmpFailure."""
        for name in reversed(netdevs.cable_names(card)):
            with suppress(qmp.QmpRefused):
                qmp.ask(paths.qmp, Command("netdev_del", {"id": name}))


class _Sight:
    """What was seen of the host; nothing follows from a question that is not answered."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._plugged = cache(_plugged)

    def is_complete(self, spec: VmSpec, nic: NicSpec, pid: int) -> bool:
        paths = self._host.paths.vm(spec.vm_id)
        if nic.mode == "user":
            near = self._near
            return near is None or outlets.serves(
                paths.outlet(nic.index), user_mode.orders(self._host, spec, nic, near)
            )
        plugged = self._plugged(netdevs.switch_place(nic, paths))
        if plugged is not None and pid not in plugged:
            return False
        return nic.mode != "public_routed" or self._is_tap_open

    @cached_property
    def _near(self) -> Near | None:
        try:
            return user_mode.near(self._host)
        except CumuletError as error:
            log.warning("host not seen", reason=error.message)
            return None

    @cached_property
    def _is_tap_open(self) -> bool:
        try:
            return user_mode.is_tap_open(self._host)
        except CumuletError as error:
            log.warning("TAP not seen", reason=error.message)
            return True


def _plugged(place: Path) -> frozenset[int] | None:
    switch = Switch(place)
    if not switches.is_alive(switch):
        return frozenset()
    try:
        return switches.plugged(switch)
    except SwitchSilent as error:
        log.warning("switch not seen", reason=error.message)
        return None


def _counters(seen: Traffic) -> NicCounters:
    return NicCounters(seen.packets_in, seen.packets_out, seen.bytes_in, seen.bytes_out)


def _plugs(place: Path) -> Mapping[int, Traffic]:
    try:
        return switch_console.plugs(Switch(place).console)
    except SwitchSilent:
        return {}


def _check(nic: NicSpec) -> None:
    """What placement should have kept from this host. Raises NoNetworkPrivilege."""
    lacks = {
        "bridged addresses": nic.mode == "public_bridged",
        "firewalls": nic.firewall is not None,
        "traffic limits": nic.mbit_in is not None or nic.mbit_out is not None,
    }
    for what, wanted in lacks.items():
        if wanted:
            raise NoNetworkPrivilege(
                f"this host's agent has no CAP_NET_ADMIN, so its guests have no {what}: run it as"
                " root, or place the server elsewhere"
            )
