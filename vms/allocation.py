"""Claim a host's room and an address for a new VM, and write its rows, in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any

from django.conf import settings
from django.utils import timezone

from cloud.errors import ResourceUnavailable
from cloud.locks import hold_project
from cloud.models import Host, Location, Project
from cloud.patience import HINT_PATIENCE
from cloud.steps import Placing
from networks.addressing import IpNetwork, is_inside
from networks.models import Firewall, Network, PrivateNetwork
from networks.querysets import NetworkQuerySet
from vms.attachments import PrimaryIpElsewhere, PublicNet, claim_nic
from vms.firewalls.effective import selectors_met
from vms.models import VM, Disk, Image, ImageCopy, ServerType, SshKey
from vms.placement import Candidate, Demand, Placement, place
from vms.ports import by_protocol, free_ports
from vms.private.membership import join
from vms.spec import LEAST_FREE_GB, PowerGoal


@dataclass(frozen=True)
class ServerOrder:
    """What a user asked for when creating a server. Location None: we choose."""

    name: str
    server_type: ServerType
    image: Image
    location: Location | None = None
    ssh_keys: tuple[SshKey, ...] = ()
    user_data: str = ""
    labels: dict[str, str] | None = None
    start: bool = True
    public_net: PublicNet = field(default_factory=PublicNet)
    firewalls: tuple[Firewall, ...] = ()
    networks: tuple[PrivateNetwork, ...] = ()

    @property
    def disk_gb(self) -> int:
        return max(self.server_type.disk_gb, self.image.disk_gb)

    @property
    def demand(self) -> Demand:
        net = self.public_net
        return Demand(
            cores=self.server_type.cores,
            memory_mb=self.server_type.memory_mb,
            disk_gb=self.disk_gb,
            location=self.location.name if self.location else None,
            public_ip=net.forwarded is None and (net.ipv4 or bool(net.named)),
            ports=None if net.forwards is None else by_protocol(net.forwards),
            private_net=bool(self.networks),
            firewalled=bool(self.firewalls),
            limited=any((self.server_type.mbit_in, self.server_type.mbit_out)),
        )


def claim(project: Project, order: ServerOrder, root_password_hash: str) -> tuple[VM, Placing]:
    """Write the VM with everything it needs claimed, and tell how its host was chosen.

    Raises ResourceUnavailable, LimitExceeded, what `claim_nic` says of a named primary IP, or what
    `join` says of a private network.

    The chosen host is locked and looked at again, because another request may have taken the room
    meanwhile; then the next best is tried. Its lock lets pass whoever only refers to the host, as
    every change of a VM does. `cloud.locks` tells the order of locks.
    """
    began = timezone.now()
    host, placement = _claim_host(project, _at_its_addresses(order))
    placing = Placing(host.name, began, timezone.now(), placement.passed_over(host.name))
    vm = VM.objects.create(
        project=project,
        name=order.name,
        labels=order.labels or {},
        host=host,
        server_type=order.server_type,
        image=order.image,
        cores=order.server_type.cores,
        memory_mb=order.server_type.memory_mb,
        disk_gb=order.disk_gb,
        ssh_keys=[key.public_key for key in order.ssh_keys],
        user_data=order.user_data,
        root_password_hash=root_password_hash,
        goal=PowerGoal.RUNNING if order.start else PowerGoal.OFF,
        next_dispatch_at=timezone.now() + HINT_PATIENCE,
    )
    Disk.objects.create(vm=vm, index=0, size_gb=order.disk_gb)
    hold_project(project.pk)
    claim_nic(vm, order.public_net)
    for network in order.networks:
        join(vm, network)
    return vm, placing


def _at_its_addresses(order: ServerOrder) -> ServerOrder:
    """In the location of the primary IPs that it names; raises PrimaryIpElsewhere."""
    for ip in order.public_net.named:
        if order.location not in (None, ip.location):
            raise PrimaryIpElsewhere(
                f"primary IP {ip} is in location {ip.location}, the server is to be in"
                f" {order.location}"
            )
        order = replace(order, location=ip.location)
    return order


def _claim_host(project: Project, order: ServerOrder) -> tuple[Host, Placement]:
    offer = _Offer.to(project, order)
    demand = order.demand
    if order.public_net.forwarded is None and offer.pools:
        demand = replace(demand, public_ip=True)
    if selectors_met(project.pk, order.labels or {}):
        demand = replace(demand, firewalled=True)
    hosts = Host.objects.with_use().select_related("location")
    placement = place(demand, _candidates(hosts, offer))
    while placement.ranked:
        choice = placement.ranked[0]
        host = (
            Host.objects.select_for_update(of=("self",), no_key=True)
            .select_related("location")
            .get(pk=choice.host_id)
        )
        again = place(demand, _candidates(hosts.filter(pk=host.pk), offer))
        if again.ranked:
            return host, placement
        ranked = tuple(other for other in placement.ranked if other != choice)
        placement = Placement(ranked, {**placement.rejected, **again.rejected})
    raise ResourceUnavailable(f"error during placement: {placement.explain()}")


@dataclass(frozen=True)
class _Offer:
    """What there is for an order: hosts that have its image, and pools for its first address.

    `pooled`: locations with any pool for the project. `taps`: by location, what is led to the TAP
    of some host there.
    """

    holders: Collection[int]
    pools: Sequence[Network]
    pooled: Collection[int]
    taps: Mapping[int, Sequence[IpNetwork]]

    @classmethod
    def to(cls, project: Project, order: ServerOrder) -> _Offer:
        copies = ImageCopy.objects.filter(image=order.image, ready=True)
        pools = Network.objects.for_project(project.pk)
        taps: dict[int, list[IpNetwork]] = {}
        for host in Host.objects.with_taps():
            taps.setdefault(host.location_id, []).extend(map(ip_network, host.public_ranges))
        return cls(
            holders=set(copies.values_list("host_id", flat=True)),
            pools=_first_pools(order.public_net, pools),
            pooled=set(pools.order_by().values_list("location_id", flat=True)),
            taps=taps,
        )

    def reaching(self, host: Host) -> list[Network]:
        """Like `networks.allocation.reaching`, of the host's location."""
        if host.in_user_mode:
            led = [ip_network(cidr) for cidr in host.public_ranges]
        else:
            led = list(self.taps.get(host.location_id, ()))
        return [
            pool
            for pool in self.local(host)
            if is_inside(ip_network(str(pool.ip_range)), led) == host.in_user_mode
        ]

    def local(self, host: Host) -> list[Network]:
        return [pool for pool in self.pools if pool.location_id == host.location_id]


def _first_pools(net: PublicNet, pools: NetworkQuerySet) -> list[Network]:
    """The pools that the server's first address can be from."""
    if net.named:
        return [ip.address.network for ip in net.named]
    if net.forwarded is not None or not (net.ipv4 or net.ipv6):
        return []
    return list(pools.of_version(4 if net.ipv4 else 6))


def _candidates(hosts: Iterable[Any], offer: _Offer) -> list[Candidate]:
    """The hosts, which come with their use."""
    now = timezone.now()
    hosts = list(hosts)
    ports = free_ports(host for host in hosts if host.in_user_mode)
    return [
        Candidate(
            host_id=host.pk,
            name=host.name,
            location=host.location.name,
            schedulable=host.schedulable,
            speaking=not host.is_silent(now, settings.HOST_SILENT_SECONDS),
            network_mode=host.network_mode,
            cores=host.cores,
            free_cores=int(host.cores * settings.CPU_OVERCOMMIT) - host.used_cores,
            free_memory_mb=host.memory_mb - host.used_memory_mb,
            free_disk_gb=host.disk_gb - host.used_disk_gb,
            vm_count=host.vm_count,
            has_image=host.pk in offer.holders,
            pooled=host.location_id in offer.pooled,
            pool_modes=frozenset(pool.mode for pool in offer.reaching(host)),
            led_away=bool(offer.local(host)) and not offer.reaching(host),
            takes_members=host.takes_members,
            revoked=host.revoked_at is not None,
            unverified=host.unverified_since is not None,
            free_ports=ports.get(host.pk, {}),
            problems={one["code"]: one["message"] for one in host.problems},
            disk_full=host.disk_free_gb < LEAST_FREE_GB,
        )
        for host in hosts
    ]
