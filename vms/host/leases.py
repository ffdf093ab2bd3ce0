"""DHCP for this host's VMs: their NICs are answered from when they have links until they have none.

One server answers all NICs with public addresses; each private network has its own, in its
gateway's namespace, because the addresses of networks may be the same. The monitor keeps the
servers running; steps tell them who is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from cloud import files
from networks.host import bridge, dhcp, namespaces, nics
from networks.host.links import Tap
from networks.host.plan import CABLES
from networks.host.private_rules import INSIDE
from networks.spec import ROUTED_GATEWAY, NetworkSpec
from vms.host import netstore
from vms.host.host import Host
from vms.spec import VmSpec


def serve(host: Host, spec: VmSpec) -> None:
    """Raises CommandError."""
    taps = host.taps(spec)
    with files.locked(host.paths.locks / "dhcp"):
        dhcp.serve(host.paths.dhcp, [tap for tap in taps if not tap.private], spec.hostname)
        dhcp.ensure_server(host.paths.dhcp, _local(host))
        for network in {
            tap.network.network_id: tap.network for tap in taps if tap.network
        }.values():
            place = private_place(host, network.network_id)
            inside = [tap for tap in taps if tap.nic.network_id == network.network_id]
            dhcp.serve(place, inside, spec.hostname)
            _ensure_private(host, network)


def forget(host: Host, names: Iterable[str]) -> None:
    gone = list(names)
    with files.locked(host.paths.locks / "dhcp"):
        for place in (host.paths.dhcp, *(host.paths.gateways.glob("*/dhcp"))):
            dhcp.forget(place, gone)


def tend(host: Host) -> None:
    """Start the servers again that ended; raises CommandError or DamagedStore."""
    if host.routes_networks:
        with files.locked(host.paths.locks / "dhcp"):
            dhcp.ensure_server(host.paths.dhcp, _local(host))
            for spec in netstore.specs(host.paths):
                _ensure_private(host, spec)


def tend_network(host: Host, spec: NetworkSpec, cabled: Sequence[Tap]) -> None:
    """`tend` for one network, whose gateways may be others by now, and who is behind cables."""
    place = private_place(host, spec.network_id)
    with files.locked(host.paths.locks / "dhcp"):
        if place.exists() or cabled:
            dhcp.serve(place, cabled, "")
            dhcp.forget(place, dhcp.served(place, CABLES) - {tap.name for tap in cabled})
        _ensure_private(host, spec)


def private_place(host: Host, network_id: int) -> Path:
    return host.paths.gateway(network_id) / "dhcp"


def _ensure_private(host: Host, spec: NetworkSpec) -> None:
    keeper = namespaces.find(host.paths.gateway(spec.network_id))
    if keeper is not None:
        gateways = [subnet.gateway for subnet in spec.subnets]
        with namespaces.inside(keeper):
            dhcp.ensure_server(private_place(host, spec.network_id), gateways, (INSIDE,))


def _local(host: Host) -> list[str]:
    """The host's address on the guests' own links, and on the bridge."""
    address = nics.uplink_address(host.surroundings) if bridge.exists() else None
    return [ROUTED_GATEWAY, *([address] if address else [])]
