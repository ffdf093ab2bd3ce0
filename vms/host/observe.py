"""What there is of a VM right now: asked of the kernel, of QEMU and of the disk, never assumed."""

from __future__ import annotations

import structlog

from cloud.errors import CumuletError
from networks.host import nics
from networks.spec import NicReport, Presence
from vms.host import cards, disks, images, qemu, qmp, wiring
from vms.host.host import Host
from vms.host.paths import VmPaths
from vms.host.plan import Guest, Observed
from vms.spec import VmSpec

log = structlog.get_logger(__name__)

_SPECIAL = {qmp.HALTED: Guest.HALTED, qmp.STALLED: Guest.STALLED}


def observe(host: Host, spec: VmSpec, paths: VmPaths) -> Observed:
    state = guest(spec.uuid, paths)
    return Observed(
        guest=state,
        image=images.present(host.paths, spec.image),
        provisioned=disks.disks_exist(spec, paths) and paths.seed.exists(),
        links=_links(host, spec),
        plugged=state is not Guest.RUNNING or _plugged(spec, paths),
    )


def guest(uuid: str, paths: VmPaths) -> Guest:
    if qemu.find(uuid, paths) is None:
        return Guest.ABSENT
    try:
        state = qmp.run_state(paths.qmp)
    except qmp.QmpFailure:
        # It may have ended between the two questions; only one that still lives is silent.
        return Guest.SILENT if qemu.find(uuid, paths) else Guest.ABSENT
    return _SPECIAL.get(state, Guest.RUNNING)


def frames(host: Host, spec: VmSpec) -> int:
    """How many frames the guest has sent through its interfaces since they were made."""
    return sum(seen.packets_out for seen in wiring.of(host).counting()(spec).values())


def nic_reports(host: Host, spec: VmSpec) -> tuple[NicReport, ...]:
    """What was seen at the VM's interfaces; nothing where it cannot be seen."""
    if not spec.nics:
        return ()
    try:
        return wiring.of(host).reports(spec)
    except CumuletError as error:
        log.warning("interfaces not seen", vm=spec.vm_id, reason=error.message)
        return ()


def _plugged(spec: VmSpec, paths: VmPaths) -> bool:
    """Nothing follows from a question that is not answered."""
    try:
        return cards.are_plugged(spec, paths)
    except qmp.QmpFailure as error:
        log.warning("NICs not seen", vm=spec.vm_id, reason=error.message)
        return True


def _links(host: Host, spec: VmSpec) -> Presence:
    try:
        return wiring.of(host).presence(spec)
    except nics.NetworkRefused as error:
        log.warning("links not seen", vm=spec.vm_id, reason=error.message)
        return Presence.PART
