"""What there is of a VM right now: asked of the kernel, of QEMU and of the disk, never assumed."""

from __future__ import annotations

from contextlib import suppress

import structlog

from cloud.shell import CommandError
from networks.host import counters, nics
from networks.spec import NicReport, Presence
from vms.host import disks, images, qemu, qmp
from vms.host.host import Host
from vms.host.paths import VmPaths
from vms.host.plan import Guest, Observed
from vms.spec import VmSpec

log = structlog.get_logger(__name__)


def observe(host: Host, spec: VmSpec, paths: VmPaths) -> Observed:
    return Observed(
        guest=guest(spec.uuid, paths),
        image=images.present(host.paths, spec.image),
        provisioned=disks.disks_exist(spec, paths) and paths.seed.exists(),
        links=_links(host, spec),
    )


def guest(uuid: str, paths: VmPaths) -> Guest:
    if qemu.find(uuid, paths) is None:
        return Guest.ABSENT
    try:
        state = qmp.run_state(paths.qmp)
    except qmp.QmpFailure:
        # It may have ended between the two questions; only one that still lives is silent.
        return Guest.SILENT if qemu.find(uuid, paths) else Guest.ABSENT
    return Guest.HALTED if state == qmp.HALTED else Guest.RUNNING


def frames(host: Host, spec: VmSpec) -> int:
    """How many frames the guest has sent through its interfaces since they were made."""
    return counters.frames_from(tap.name for tap in host.taps(spec))


def nic_reports(host: Host, spec: VmSpec) -> tuple[NicReport, ...]:
    """What was learned of NICs that the outside network gives addresses to."""
    reports = []
    for tap in host.taps(spec):
        if tap.nic.dhcp and host.routes_networks:
            # Without links there is nothing to have learned from.
            with suppress(CommandError):
                reports.append(NicReport(tap.nic.index, learned=nics.learn(tap)))
    return tuple(reports)


def _links(host: Host, spec: VmSpec) -> Presence:
    if not host.routes_networks:
        return Presence.NONE
    try:
        return nics.presence(host.taps(spec), host.surroundings)
    except nics.NetworkRefused as error:
        log.warning("links not seen", vm=spec.vm_id, reason=error.message)
        return Presence.PART
