"""What each host is told about a private network, made from the inventory.

A host is told all members and just those peers that have a member, so its cost follows the
network's own size. A revoked host, or one that can neither make tunnels nor lay cables, is nobody's
peer and has no members.

Hosts in user mode are told how to lay cables and no more; what other hosts know of their members is
that the gateway has them. That one is told even without a member of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from ipaddress import ip_address
from itertools import groupby
from typing import Any

import msgspec
from django.conf import settings
from msgspec import structs

from cloud.models import Host
from networks.models import PrivateNetwork
from networks.private.cabling import cables
from networks.spec import MemberSpec, NetworkSpec, PeerSpec, RouteSpec, SubnetSpec
from vms.models import Nic, PrivateAddress
from vms.private.nics import mtu
from vms.private.stars import hosts_of, stations_of


def documents_of(network: PrivateNetwork, now: datetime) -> dict[int, NetworkSpec]:
    """By host, what it is told, with generation 1 and no cause; cables as in the network's star."""
    hosts = hosts_of(network)
    laid = cables(stations_of(hosts.values(), now), network.star)
    hosts |= Host.objects.in_bulk(laid.keys() - hosts.keys())
    common = _common(network, cabled=any(host.in_user_mode for host in hosts.values()))
    meshed = {pk: host for pk, host in sorted(hosts.items()) if host.in_mesh}
    told = _told_in_mesh(network, hosts, meshed)
    peers = {pk: _peer(host) for pk, host in meshed.items()}
    documents = {}
    for pk, host in hosts.items():
        document = structs.replace(common, host_uuid=str(host.uuid), cables=laid.get(pk))
        if host.in_mesh:
            others = tuple(peer for other, peer in peers.items() if other != pk)
            own = {"tunnel_ip": str(host.tunnel_ip), "peers": others}
            document = structs.replace(document, **told, **own)
        documents[pk] = document
    return documents


def digest_of(document: NetworkSpec) -> str:
    """Equal for documents that tell a host the same."""
    return hashlib.sha256(msgspec.json.encode(document)).hexdigest()


def networks_of(host: Host) -> list[int]:
    """The networks that have members on the host, or their cables' hub."""
    nics = Nic.objects.filter(vm__host=host, network__isnull=False)
    served = host.hub_of.values_list("pk", flat=True)
    return sorted({*nics.values_list("network", flat=True).distinct(), *served})


def _common(network: PrivateNetwork, *, cabled: bool) -> NetworkSpec:
    """What all hosts are told, also those that lay cables and know no more of the network."""
    return NetworkSpec(
        network_id=network.pk,
        host_uuid="00000000-0000-0000-0000-000000000000",
        generation=1,
        vni=network.vni,
        ip_range=str(network.ip_range),
        port=settings.TUNNEL_PORT,
        mtu=mtu(cabled=cabled),
        subnets=tuple(
            SubnetSpec(ip_range=str(subnet), gateway=subnet.gateway)
            for subnet in network.subnets.all()
        ),
    )


def _told_in_mesh(
    network: PrivateNetwork, hosts: Mapping[int, Host], meshed: Mapping[int, Host]
) -> dict[str, Any]:
    """Who the members are, where frames for them go, and what gateways do."""
    places = {pk: str(host.uuid) for pk, host in meshed.items()}
    if gateway := places.get(network.hub_id or 0):
        places |= dict.fromkeys(hosts.keys() - meshed.keys(), gateway)
    addresses = PrivateAddress.objects.filter(network=network, nic__vm__host__in=places)
    return {
        "egress": network.egress,
        "routes": tuple(
            RouteSpec(destination=str(route.destination), gateway=str(route.gateway))
            for route in network.routes.all()
        ),
        "members": tuple(_members(addresses, places)),
    }


def _members(addresses: Any, places: Mapping[int, str]) -> Iterator[MemberSpec]:
    rows = addresses.order_by("nic_id", "alias", "pk").values_list(
        "nic_id", "nic__mac", "nic__vm__host", "ip"
    )
    for (_, mac, host), group in groupby(rows, key=lambda row: row[:3]):
        yield MemberSpec(
            mac=mac,
            host_uuid=places[host],
            addresses=tuple(str(ip_address(str(row[3]))) for row in group),
        )


def _peer(host: Host) -> PeerSpec:
    return PeerSpec(
        host_uuid=str(host.uuid),
        public_key=host.tunnel_key,
        tunnel_ip=str(host.tunnel_ip),
        endpoint=host.tunnel_endpoint or None,
    )
