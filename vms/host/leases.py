"""DHCP for this host's VMs: their NICs are answered from when they have links until they have none.

The monitor keeps the server running; steps tell it who is there.
"""

from __future__ import annotations

from collections.abc import Iterable

from networks.host import bridge, dhcp, nics
from networks.spec import ROUTED_GATEWAY
from vms.host import files
from vms.host.host import Host
from vms.spec import VmSpec


def serve(host: Host, spec: VmSpec) -> None:
    """Raises CommandError."""
    with files.locked(host.paths.locks / "dhcp"):
        dhcp.serve(host.paths.dhcp, host.taps(spec), spec.hostname)
        dhcp.ensure_server(host.paths.dhcp, _local(host))


def forget(host: Host, names: Iterable[str]) -> None:
    with files.locked(host.paths.locks / "dhcp"):
        dhcp.forget(host.paths.dhcp, names)


def tend(host: Host) -> None:
    """Start the server again if it ended; raises CommandError."""
    if host.routes_networks:
        with files.locked(host.paths.locks / "dhcp"):
            dhcp.ensure_server(host.paths.dhcp, _local(host))


def _local(host: Host) -> list[str]:
    """The host's address on the guests' own links, and on the bridge."""
    address = nics.uplink_address(host.surroundings) if bridge.exists() else None
    return [ROUTED_GATEWAY, *([address] if address else [])]
