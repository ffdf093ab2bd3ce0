"""The private networks that this host's VMs are in become what their documents say.

Each network is a bridge with a tunnel to other hosts, and a gateway in a namespace of its own;
all share one tunnel for the host, whose peers are those of all documents together. A message, a
sweep of the monitor or the end of a process leads here; what is in place already costs a look.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import structlog
from msgspec import structs
from pyroute2 import IPRoute, NetlinkError

from cloud import files, shell
from cloud.errors import CumuletError
from cloud.wire import Failure
from networks.host import (
    cable_port,
    dhcp,
    gateway,
    links,
    mesh,
    namespaces,
    nft,
    overlay,
    plan,
    private_rules,
    wireguard,
)
from networks.host.cable_port import Port
from networks.host.gateway import Gateway
from networks.host.links import Uplink
from networks.host.nics import NetworkRefused, find_uplink
from networks.host.overlay import Tunnel
from networks.host.private_rules import Underlay
from networks.host.wireguard import Place
from networks.spec import TUNNEL_PORT, MemberSpec, NetworkRemoval, NetworkReport, NetworkSpec
from vms.host import cables, documents, leases, netstore, store, vde_networks
from vms.host.host import Host
from vms.host.paths import tap_name
from vms.spec import VmSpec

log = structlog.get_logger(__name__)

# Takes a report to control; answers whether it is on its way.
Tell = Callable[[NetworkReport], bool]


class NetworkUnknown(CumuletError):
    """A NIC is to be in a private network that this host has not been told of."""

    code: ClassVar[str] = "network_unknown"
    retryable: ClassVar[bool] = True


class NetworkMissing(CumuletError):
    """A private network could not be made on this host."""

    code: ClassVar[str] = "network_missing"
    retryable: ClassVar[bool] = True


class NotInMesh(CumuletError):
    """The document is for a host in user mode, and this is none."""

    code: ClassVar[str] = "network_mode_unsupported"
    retryable: ClassVar[bool] = True


def converge(host: Host, network_id: int) -> NetworkReport | None:
    """Make the network so, or make it go; None if nothing is known of it. Raises DamagedStore."""
    lock = _lock(host, network_id)
    with files.locked(lock):
        wanted = netstore.wanted(host.paths, network_id)
        if wanted is None:
            lock.unlink()
            return None
        failure = None
        try:
            if isinstance(wanted, NetworkSpec):
                _ensure(host, wanted)
            else:
                _remove(host, wanted)
        except CumuletError as error:
            failure = Failure(error.code, error.message, error.retryable)
        except (NetlinkError, OSError) as error:
            refused = NetworkRefused(f"the kernel refused a part of the network: {error}")
            failure = Failure(refused.code, refused.message, refused.retryable)
    if failure:
        log.warning("network not made", code=failure.code, reason=failure.message)
    return NetworkReport(
        network_id=network_id,
        host_uuid=host.uuid,
        generation=wanted.generation,
        present=isinstance(wanted, NetworkSpec) or failure is not None,
        converged=failure is None,
        at=time.time(),
        failure=failure,
        cause=wanted.cause,
    )


def settle(host: Host, report: NetworkReport) -> None:
    """Control has this report. Once a network is gone nobody has to look at it again.

    What cannot be noted now is told again by the monitor's next sweep.
    """
    if report.present:
        return
    lock = _lock(host, report.network_id)
    try:
        with files.locked(lock):
            netstore.settle(host.paths, report.network_id, report.generation)
            lock.unlink()
    except (documents.DamagedStore, OSError) as error:
        log.warning("removal not settled", network=report.network_id, reason=str(error))


def _lock(host: Host, network_id: int) -> Path:
    """Held by whoever makes the network so, or takes it away."""
    return host.paths.locks / f"{network_id}.network"


def require(host: Host, spec: VmSpec) -> None:
    """Before NICs are made. Raises NetworkUnknown or NetworkMissing."""
    for tap in host.taps(spec):
        if not tap.private:
            continue
        if tap.network is None:
            raise NetworkUnknown(
                f"this host has not been told of network #{tap.nic.network_id} yet: the server"
                " goes on as soon as it is"
            )
        _require_network(host, tap.network)


def _require_network(host: Host, spec: NetworkSpec) -> None:
    if stands(host, spec.network_id):
        return
    report = converge(host, spec.network_id)
    if report and report.failure:
        raise NetworkMissing(
            f"network #{spec.network_id} is not there yet, it is tried again:"
            f" {report.failure.message}"
        )


def stands(host: Host, network_id: int) -> bool:
    """Whether there is what members are connected to."""
    if not host.routes_networks:
        return vde_networks.stands(host, network_id)
    with IPRoute() as netlink:
        return links.index_of(netlink, plan.names(network_id).bridge) is not None


def members(host: Host, network_id: int) -> list[int]:
    """The VMs of this host that have a NIC in the network."""
    return [
        vm_id
        for vm_id, spec in _specs(host)
        if any(nic.network_id == network_id for nic in spec.nics)
    ]


def fitted(host: Host, spec: VmSpec) -> VmSpec:
    """The document with the MTU that its private networks really have on this host."""
    taps = host.taps(spec)
    if not any(tap.network for tap in taps):
        return spec
    with IPRoute() as netlink:
        uplink = find_uplink(netlink, host.surroundings)
    if uplink is None:
        return spec  # whoever makes the links says so
    nics = tuple(
        structs.replace(tap.nic, mtu=plan.mtu(tap.network, uplink.mtu)) if tap.network else tap.nic
        for tap in taps
    )
    return structs.replace(spec, nics=nics)


def ensure_tunnel(host: Host) -> None:
    """The host's tunnel with the peers of all networks, or none without any.

    Raises DamagedStore, NoUplink, TunnelFailed, WireguardMissing, NetlinkError, CommandError or
    OSError.
    """
    place = tunnel_place(host)
    with files.locked(host.paths.locks / "tunnel"), IPRoute() as netlink:
        wanted = mesh.mesh(netstore.specs(host.paths))
        if wanted is not None:
            uplink = links.find_uplink(netlink, host.surroundings.uplink)
            rules = private_rules.host_rules(_underlay(host, uplink, wanted.address))
            _ensure_key(host, place)
            if wireguard.ensure(netlink, place, wanted, plan.tunnel_mtu(uplink.mtu), rules):
                log.info("tunnel set up", peers=len(wanted.peers))
        elif wireguard.is_left(netlink, place) or nft.tables_of([private_rules.TABLE], nft.INET):
            wireguard.remove(netlink, place)
            nft.apply(private_rules.no_host_rules())


def tunnel_lives(host: Host) -> bool:
    """Whether there is one, or none is needed."""
    with IPRoute() as netlink:
        return wireguard.lives(netlink, tunnel_place(host)) or not netstore.specs(host.paths)


def tunnel_key(host: Host) -> str | None:
    """By which other hosts know this one; None if it can make no tunnel.

    Waits for no tunnel that is being made: it is told with every heartbeat.
    """
    if not host.routes_networks:
        return None
    try:
        return _ensure_key(host, tunnel_place(host))
    except (shell.CommandError, OSError) as error:
        log.warning("no private networks here", reason=str(error))
        return None


def tunnel_endpoint(host: Host, uplink_ip: str | None) -> str | None:
    """Where other hosts reach the tunnel; None if they cannot."""
    if uplink_ip is None or host.config.nat or not host.routes_networks:
        return None
    specs: list[NetworkSpec] = []
    with suppress(documents.DamagedStore):  # it must not silence the host
        specs = netstore.specs(host.paths)
    return f"{uplink_ip}:{specs[-1].port if specs else TUNNEL_PORT}"


def tunnel_place(host: Host) -> Place:
    name = mesh.interface(host.uuid)
    return Place(name, host.uuid, host.paths.tunnel_key, host.paths.tunnel_log)


def _ensure_key(host: Host, place: Place) -> str:
    with files.locked(host.paths.locks / "tunnel-key"):
        return wireguard.ensure_key(place)


def _ensure(host: Host, spec: NetworkSpec) -> None:
    if not host.routes_networks:
        vde_networks.ensure(host, spec)
        cables.ensure(host)
        return
    if spec.tunnel_ip is None:
        raise NotInMesh(
            f"control takes this host for one in user mode and has given it no part in the mesh of"
            f" network #{spec.network_id}: it is told anew once control has heard of it"
        )
    ensure_tunnel(host)
    name = plan.names(spec.network_id)
    place = host.paths.gateway(spec.network_id)
    place.mkdir(mode=0o711, exist_ok=True)
    with IPRoute() as netlink:
        uplink = links.find_uplink(netlink, host.surroundings.uplink)
        mtu = plan.mtu(spec, uplink.mtu)
        tunnel = Tunnel(spec.vni, spec.tunnel_ip, mtu)
        local = _local(host, spec.network_id)
        wanted = plan.wanted(spec, local)
        cabled = plan.cabled(spec, [mac for mac, _ in local])
        if not overlay.is_complete(netlink, name, tunnel):
            overlay.ensure(netlink, name, tunnel, host.uuid)
        made = Gateway(spec, place, mtu, host.uuid)
        if gateway.is_complete(netlink, made):
            gateway.know(made, wanted)
        else:
            if namespaces.find(place) is None:
                dhcp.stop(leases.private_place(host, spec.network_id))
            gateway.ensure(netlink, made, wanted)
        _ensure_port(netlink, host, Port(spec, mtu, host.uuid), cabled)
        overlay.forward(netlink, name, wanted)
    leases.tend_network(host, spec, cable_port.as_taps(spec, cabled, mtu))
    cables.ensure(host)


def _ensure_port(netlink: Any, host: Host, port: Port, members: Sequence[MemberSpec]) -> None:
    """What cables from hosts in user mode lead into, if this host is their gateway."""
    switch = vde_networks.switch_of(host, port.spec.network_id)
    if port.spec.cables is None:
        cable_port.remove(netlink, port.name, switch)
    else:
        cable_port.ensure(netlink, port, switch, members)


def _remove(host: Host, removal: NetworkRemoval) -> None:
    if not host.routes_networks:
        cables.ensure(host)
        vde_networks.remove(host, removal)
        return
    name = plan.names(removal.network_id)
    place = host.paths.gateway(removal.network_id)
    if not place.exists():  # the first that is made, and the last that goes
        return
    dhcp.stop(leases.private_place(host, removal.network_id))
    cables.ensure(host)
    with IPRoute() as netlink:
        cable_port.remove(netlink, name.cables, vde_networks.switch_of(host, removal.network_id))
        gateway.remove(netlink, name, place)
        overlay.remove(netlink, name)
    ensure_tunnel(host)
    shutil.rmtree(place)


def _local(host: Host, network_id: int) -> list[tuple[str, str]]:
    """MAC and TAP of the network's members here."""
    return [
        (nic.mac, tap_name(vm_id, nic.index))
        for vm_id, spec in _specs(host)
        for nic in spec.nics
        if nic.network_id == network_id
    ]


def _specs(host: Host) -> list[tuple[int, VmSpec]]:
    found = []
    for vm_id in store.vm_ids(host):
        with suppress(documents.DamagedStore):
            wanted = store.wanted(host.paths.vm(vm_id))
            if isinstance(wanted, VmSpec):
                found.append((vm_id, wanted))
    return found


def _underlay(host: Host, uplink: Uplink, tunnel_ip: str) -> Underlay:
    around = host.surroundings
    protected = uplink.networks if around.protected is None else around.protected
    return Underlay(mesh.interface(host.uuid), tunnel_ip, uplink.address, tuple(protected))
