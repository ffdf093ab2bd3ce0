"""Claim a host's room and an address for a new VM, and write its rows, in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from django.conf import settings
from django.utils import timezone

from cloud.errors import ResourceUnavailable
from cloud.locks import hold_project
from cloud.models import Host, Location, Project
from cloud.patience import HINT_PATIENCE
from cloud.steps import Placing
from networks.models import Firewall, Network, PrivateNetwork
from vms.attachments import PrimaryIpElsewhere, PublicNet, claim_nic
from vms.models import VM, Disk, Image, ImageCopy, ServerType, SshKey
from vms.placement import Candidate, Demand, Placement, place
from vms.private.membership import join
from vms.spec import PowerGoal


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
        return Demand(
            cores=self.server_type.cores,
            memory_mb=self.server_type.memory_mb,
            disk_gb=self.disk_gb,
            location=self.location.name if self.location else None,
            public_ip=self.public_net.ipv4 or bool(self.public_net.named),
            private_net=bool(self.networks),
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
    holders = set(
        ImageCopy.objects.filter(image=order.image, ready=True).values_list("host_id", flat=True)
    )
    modes = _pool_modes(project, order.public_net)
    demand = replace(order.demand, public_ip=order.demand.public_ip or bool(modes))
    hosts = Host.objects.with_use().select_related("location")
    placement = place(demand, _candidates(hosts, holders, modes))
    while placement.ranked:
        choice = placement.ranked[0]
        host = (
            Host.objects.select_for_update(of=("self",), no_key=True)
            .select_related("location")
            .get(pk=choice.host_id)
        )
        again = place(demand, _candidates(hosts.filter(pk=host.pk), holders, modes))
        if again.ranked:
            return host, placement
        ranked = tuple(other for other in placement.ranked if other != choice)
        placement = Placement(ranked, {**placement.rejected, **again.rejected})
    raise ResourceUnavailable(f"error during placement: {placement.explain()}")


def _pool_modes(project: Project, net: PublicNet) -> dict[int, frozenset[str]]:
    """By location, how the pools are connected that the server's first address can be from."""
    if net.named:
        named = {ip.address.network for ip in net.named}
        return {pool.location_id: frozenset({pool.mode}) for pool in named}
    found: dict[int, frozenset[str]] = {}
    if net.ipv4 or net.ipv6:
        pools = Network.objects.for_project(project.pk).of_version(4 if net.ipv4 else 6)
        for location_id, mode in pools.values_list("location_id", "mode"):
            found[location_id] = found.get(location_id, frozenset()) | {mode}
    return found


def _candidates(
    hosts: Iterable[Any], holders: Collection[int], modes: dict[int, frozenset[str]]
) -> list[Candidate]:
    """The hosts, which come with their use; `holders` are those that have the image.

    `modes`: how pools are connected, by location.
    """
    now = timezone.now()
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
            has_image=host.pk in holders,
            pool_modes=modes.get(host.location_id, frozenset()),
            in_mesh=host.takes_members,
            revoked=host.revoked_at is not None,
        )
        for host in hosts
    ]
