"""Private networks on a host in user mode: a switch for each, and nothing else of the host's."""

from __future__ import annotations

import shutil

import structlog

from networks.host import plan, switches
from networks.host.switches import Owner, Switch
from networks.spec import NetworkRemoval, NetworkSpec
from vms.host.host import Host

log = structlog.get_logger(__name__)


def switch_of(host: Host, network_id: int) -> Switch:
    """On a gateway it runs as the user of guests, and leads to a port of the network's bridge."""
    place = host.paths.switch(network_id)
    if not host.routes_networks:
        return Switch(place)
    assert host.owner is not None, "whoever may make links is root"
    owner = Owner(host.owner.uid, host.owner.gid, tuple(host.drop_privileges))
    return Switch(place, plan.names(network_id).cables, owner)


def ensure(host: Host, spec: NetworkSpec) -> None:
    """One caller at a time. Raises VdeMissing, SwitchFailed, CommandError or OSError."""
    host.paths.gateway(spec.network_id).mkdir(mode=0o700, exist_ok=True)
    if switches.ensure(switch_of(host, spec.network_id)):
        log.info("switch started", network=spec.network_id)


def remove(host: Host, removal: NetworkRemoval) -> None:
    switches.remove(switch_of(host, removal.network_id))
    shutil.rmtree(host.paths.gateway(removal.network_id), ignore_errors=True)


def stands(host: Host, network_id: int) -> bool:
    """Whether nothing of the network has ended."""
    return switches.is_alive(switch_of(host, network_id))
