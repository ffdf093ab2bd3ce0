"""A running guest's NICs as QEMU has them: seen, plugged in, and pulled out again.

Only those of private networks come and go while a guest runs. Pulling one out takes the guest's
consent: until it gives it, nothing passes any more, and it is asked again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

import structlog

from cloud.errors import CumuletError
from vms.host import qmp, wiring
from vms.host.command import SLOT_PREFIX, slot
from vms.host.host import Host
from vms.host.netdevs import CARD_PREFIX, card
from vms.host.paths import VmPaths
from vms.host.qmp import Command
from vms.spec import VmSpec

log = structlog.get_logger(__name__)

_DEVICES = "/machine/peripheral"
# A guest that listens takes a fraction of that.
_CONSENT_SECONDS = 1.0
_POLL_SECONDS = 0.05


class NoSlot(CumuletError):
    """The guest's machine has no place for a NIC that comes while it runs."""

    code: ClassVar[str] = "nic_slot_missing"


def are_plugged(spec: VmSpec, paths: VmPaths) -> bool:
    """Whether the guest has just the NICs of its document. Raises QmpFailure."""
    seen = _devices(paths)
    if _is_old(seen):
        return all(slot(nic) is None for nic in spec.nics)
    return _cards(seen) == set(map(card, spec.nics))


def plug(host: Host, spec: VmSpec, paths: VmPaths) -> None:
    """Pull out what is not wanted, then plug in what is missing, whose link is there.

    Does less if the guest does not let go of something yet. Raises NoSlot, QmpFailure,
    NetworkRefused or CommandError.
    """
    seen = _devices(paths)
    wanted = {card(nic): nic for nic in spec.nics}
    gone = sorted(_cards(seen) - wanted.keys())
    if gone and not _pulled(host, spec, paths, gone):
        return
    for name in sorted(wanted.keys() - _cards(seen)):
        nic = wanted[name]
        port = slot(nic)
        if port not in seen:
            raise NoSlot(
                f"NIC {nic.index} cannot be added while the server runs: shut it down and start it"
            )
        netdevs = wiring.of(host).netdevs(nic, paths)
        device = {"driver": "virtio-net-pci", "id": name, "bus": port, "netdev": name}
        for netdev in reversed(netdevs):
            with suppress(qmp.QmpRefused):  # what a plug that failed has left
                qmp.ask(paths.qmp, Command("netdev_del", {"id": netdev["id"]}))
        qmp.ask(
            paths.qmp,
            *(Command("netdev_add", netdev) for netdev in netdevs),
            Command("device_add", {**device, "mac": nic.mac, "host_mtu": nic.mtu, "romfile": ""}),
        )


def _pulled(host: Host, spec: VmSpec, paths: VmPaths, names: Sequence[str]) -> bool:
    wires = wiring.of(host)
    wires.cut(spec, names)
    for name in names:
        # While the guest is being asked, QEMU refuses to ask again.
        with suppress(qmp.QmpRefused):
            qmp.ask(paths.qmp, Command("device_del", {"id": name}))
    deadline = time.monotonic() + _CONSENT_SECONDS
    while held := _cards(_devices(paths)) & set(names):
        if time.monotonic() > deadline:
            log.info("guest holds on to a NIC, its link is cut", nics=sorted(held))
            return False
        time.sleep(_POLL_SECONDS)
    for name in names:
        with suppress(qmp.QmpRefused):
            qmp.ask(paths.qmp, Command("netdev_del", {"id": name}))
    wires.withdraw(spec, names)
    return True


def _devices(paths: VmPaths) -> set[str]:
    (listed,) = qmp.ask(paths.qmp, Command("qom-list", {"path": _DEVICES}))
    return {str(one["name"]) for one in listed}


def _cards(devices: set[str]) -> set[str]:
    return {name for name in devices if name.startswith(CARD_PREFIX)}


def _is_old(devices: set[str]) -> bool:
    """A guest that an older release started: its NICs have no names, and it has no slots."""
    return not any(name.startswith(SLOT_PREFIX) for name in devices)
