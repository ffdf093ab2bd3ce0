"""What each host is told about a private network, made from the inventory.

A host is told all members and just those peers that have a member, so its cost follows the
network's own size. A host outside the mesh, or revoked, is nobody's peer and has no members.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import groupby
from typing import Any

import msgspec
from django.conf import settings
from msgspec import structs

from cloud.models import Host
from networks.models import PrivateNetwork
from networks.spec import MemberSpec, NetworkSpec, PeerSpec, RouteSpec, SubnetSpec
from vms.models import Nic, PrivateAddress
from vms.private.nics import mtu


def documents_of(network: PrivateNetwork) -> dict[int, NetworkSpec]:
    """The document of every host with a member, by host, all with generation 1 and no cause."""
    addresses = PrivateAddress.objects.filter(network=network)
    hosts = Host.objects.in_mesh().filter(vms__nics__network=network).distinct().in_bulk()
    members = tuple(_members(addresses.filter(nic__vm__host__in=hosts), hosts))
    peers = {pk: _peer(host) for pk, host in sorted(hosts.items())}
    common = NetworkSpec(
        network_id=network.pk,
        host_uuid="00000000-0000-0000-0000-000000000000",
        generation=1,
        vni=network.vni,
        ip_range=str(network.ip_range),
        tunnel_ip="0.0.0.0",
        port=settings.TUNNEL_PORT,
        mtu=mtu(),
        egress=network.egress,
        subnets=tuple(
            SubnetSpec(ip_range=str(subnet), gateway=subnet.gateway)
            for subnet in network.subnets.all()
        ),
        routes=tuple(
            RouteSpec(destination=str(route.destination), gateway=str(route.gateway))
            for route in network.routes.all()
        ),
        members=members,
    )
    return {
        pk: structs.replace(
            common,
            host_uuid=str(host.uuid),
            tunnel_ip=str(host.tunnel_ip),
            peers=tuple(peer for other, peer in peers.items() if other != pk),
        )
        for pk, host in hosts.items()
    }


def digest_of(document: NetworkSpec) -> str:
    """Equal for documents that tell a host the same."""
    return hashlib.sha256(msgspec.json.encode(document)).hexdigest()


def networks_of(host: Host) -> list[int]:
    """The networks that have members on the host."""
    nics = Nic.objects.filter(vm__host=host, network__isnull=False)
    return sorted(nics.values_list("network", flat=True).distinct())


def _members(addresses: Any, hosts: dict[int, Host]) -> Iterator[MemberSpec]:
    rows = addresses.order_by("nic_id", "alias", "pk").values_list(
        "nic_id", "nic__mac", "nic__vm__host", "ip"
    )
    for (_, mac, host), group in groupby(rows, key=lambda row: row[:3]):
        yield MemberSpec(
            mac=mac,
            host_uuid=str(hosts[host].uuid),
            addresses=tuple(str(ip_address(str(row[3]))) for row in group),
        )


def _peer(host: Host) -> PeerSpec:
    return PeerSpec(
        host_uuid=str(host.uuid),
        public_key=host.tunnel_key,
        tunnel_ip=str(host.tunnel_ip),
        endpoint=host.tunnel_endpoint or None,
    )
