"""What a host is told about an interface in a private network; part of `vms.dispatch`."""

from __future__ import annotations

from ipaddress import IPv4Address

from django.conf import settings

from networks.models import PrivateNetwork
from networks.private.layout import EVERYWHERE, first_address
from networks.private.mtu import cabled_mtu, private_mtu
from networks.spec import NicSpec
from vms.interfaces import PRIVATE_MODE, PUBLIC_INDEX
from vms.models import VM, Nic

# Of a network whose hosts know nothing better.
_USUAL_FABRIC = 1500


def mtu(*, cabled: bool) -> int | None:
    """Of every private network of this cloud, in bytes; None: as each host's uplink allows.

    Of one that hosts in user mode are a part of it is said always, as those know nothing of what
    the uplinks of others allow.
    """
    if cabled:
        return cabled_mtu(settings.FABRIC_MTU or _USUAL_FABRIC)
    return private_mtu(settings.FABRIC_MTU) if settings.FABRIC_MTU else None


def private_nic_spec(vm: VM, nic: Nic) -> NicSpec:
    """An interface with what `VM.objects.for_spec()` found."""
    assert nic.network is not None
    layout = nic.network.layout
    ip = IPv4Address(nic.private_ip)
    subnet = layout.subnet_of(ip)
    assert subnet is not None  # a subnet with members is not deleted
    wide = [layout.ip_range] if layout.ip_range != subnet else []
    routes = [*wide, *(way.destination for way in layout.ways if way.destination != EVERYWHERE)]
    if nic == _way_out(vm):
        routes.append(EVERYWHERE)
    return NicSpec(
        nic_id=nic.pk,
        index=nic.index,
        mac=nic.mac,
        mode=PRIVATE_MODE,
        ipv4=str(ip),
        prefix4=subnet.prefixlen,
        gateway=str(first_address(subnet)),
        floating=tuple(nic.alias_ips),
        dns=() if _is_public(vm) else tuple(settings.RESOLVERS),
        # A host of the mesh knows better: it takes that of the network's document.
        mtu=mtu(cabled=vm.host.in_user_mode) or private_mtu(_USUAL_FABRIC),
        network_id=nic.network_id,
        routes=tuple(map(str, routes)),
    )


def _way_out(vm: VM) -> Nic | None:
    """The private interface that leads to the world: the first that can, if no public one does."""
    if _is_public(vm):
        return None
    return next((nic for nic in vm.nics.all() if nic.network and _leads_out(nic.network)), None)


def _leads_out(network: PrivateNetwork) -> bool:
    return network.egress or any(
        route.way.destination == EVERYWHERE for route in network.routes.all()
    )


def _is_public(vm: VM) -> bool:
    return any(nic.mode for nic in vm.nics.all() if nic.index == PUBLIC_INDEX)
