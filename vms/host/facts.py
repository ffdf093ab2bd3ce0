"""What this machine is and has: the contents of its heartbeat."""

from __future__ import annotations

import os
import shutil
from typing import Any

from cloud.version import VERSION
from networks.host import bridge, nics
from vms.host import accelerator, cables, networks, problems, user_mode
from vms.host.host import Host
from vms.spec import HostReport

_MIB, _GIB = 2**20, 2**30


def host_report(host: Host) -> HostReport:
    """Memory in MiB, disk in GiB; what the configuration limits is told as limited."""
    verdict = accelerator.chosen(host)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MIB
    disk = shutil.disk_usage(host.paths.state)
    uplink_ip = nics.uplink_address(host.surroundings)
    return HostReport(
        host=host.config.name,
        host_uuid=host.uuid,
        boot_id=host.boot_id,
        agent_version=VERSION,
        network_mode=_network_mode(host),
        cores=host.config.cores or os.cpu_count() or 1,
        memory_mb=host.config.memory_mb or memory,
        disk_gb=disk.total // _GIB,
        disk_free_gb=disk.free // _GIB,
        accelerator=verdict.kind,
        accelerator_reason=verdict.reason,
        uplink_ip=uplink_ip,
        tunnel_key=networks.tunnel_key(host),
        tunnel_endpoint=networks.tunnel_endpoint(host, uplink_ip),
        cables=cables.able(host),
        cable_endpoint=cables.endpoint(host, uplink_ip),
        problems=problems.problems(host),
        **_user_mode(host),
    )


def _user_mode(host: Host) -> dict[str, Any]:
    """Ports on no address lead to nobody."""
    if host.routes_networks:
        return {}
    forward_ip = user_mode.forward_ip(host)
    return {
        "forward_ip": forward_ip,
        "forward_ports": host.config.forward_ports if forward_ip else None,
        "public_ranges": user_mode.public_ranges(host),
    }


def _network_mode(host: Host) -> str:
    """A bridged host routes as well."""
    if not host.routes_networks:
        return "vde"
    return "bridged" if bridge.exists() else "routed"
