"""Claim a host's room and an address for a new VM, and write its rows, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.utils import timezone

from cloud.errors import ResourceUnavailable
from cloud.models import Host, Location, Project
from cloud.steps import Placing
from networks.allocation import claim_public_ipv4
from networks.models import Firewall
from vms.intent import HINT_PATIENCE
from vms.models import VM, Disk, Image, ImageCopy, Nic, ServerType, SshKey
from vms.placement import Candidate, Demand, Placement, place
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
    public_ipv4: bool = True
    firewalls: tuple[Firewall, ...] = ()

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
            public_ip=self.public_ipv4,
        )


def claim(project: Project, order: ServerOrder, root_password_hash: str) -> tuple[VM, Placing]:
    """Write the VM with everything it needs claimed, and tell how its host was chosen.

    Raises ResourceUnavailable.

    Lock order: host, then pool. The chosen host is locked and looked at again, because another
    request may have taken the room meanwhile; then the next best is tried. Its lock lets pass
    whoever only refers to the host, as every change of a VM does.
    """
    began = timezone.now()
    host, placement = _claim_host(order)
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
    if order.public_ipv4:
        address = claim_public_ipv4(host.location, project, f"server {order.name} #{vm.pk}")
        Nic.objects.create(vm=vm, index=0, address=address)
    return vm, placing


def _claim_host(order: ServerOrder) -> tuple[Host, Placement]:
    placement = place(order.demand, _candidates(order))
    while placement.ranked:
        choice = placement.ranked[0]
        host = (
            Host.objects.select_for_update(of=("self",), no_key=True)
            .select_related("location")
            .get(pk=choice.host_id)
        )
        again = place(order.demand, _candidates(order, host.pk))
        if again.ranked:
            return host, placement
        ranked = tuple(other for other in placement.ranked if other != choice)
        placement = Placement(ranked, {**placement.rejected, **again.rejected})
    raise ResourceUnavailable(f"error during placement: {placement.explain()}")


def _candidates(order: ServerOrder, host_id: int | None = None) -> list[Candidate]:
    hosts = Host.objects.with_use().select_related("location")
    if host_id is not None:
        hosts = hosts.filter(pk=host_id)
    speaking = set(
        Host.objects.speaking(timezone.now(), settings.HOST_SILENT_SECONDS).values_list(
            "pk", flat=True
        )
    )
    holders = set(
        ImageCopy.objects.filter(image=order.image, ready=True).values_list("host_id", flat=True)
    )
    return [
        Candidate(
            host_id=host.pk,
            name=host.name,
            location=host.location.name,
            schedulable=host.schedulable,
            speaking=host.pk in speaking,
            network_mode=host.network_mode,
            cores=host.cores,
            free_cores=int(host.cores * settings.CPU_OVERCOMMIT) - host.used_cores,
            free_memory_mb=host.memory_mb - host.used_memory_mb,
            free_disk_gb=host.disk_gb - host.used_disk_gb,
            vm_count=host.vm_count,
            has_image=host.pk in holders,
        )
        for host in hosts
    ]
