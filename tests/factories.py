"""Rows for tests: each function makes one object with sensible values that a test may override."""

from __future__ import annotations

import uuid
from typing import Any

from django.utils import timezone

from cloud.models import Host, Location, Project
from networks.models import Network
from vms.actions import Ordered, ServerOrder, create_vm
from vms.models import VM, Image, ServerType
from vms.spec import Power, VmReport

SSH_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJJ2z1K0Fz7nC0cYw4oWcE2hQ5r8xqv6m5r0b3l2n1aX test@cumulet"
)


def location(name: str = "lab") -> Location:
    found, _ = Location.objects.get_or_create(name=name)
    return found


def project(name: str = "default") -> Project:
    found, _ = Project.objects.get_or_create(name=name)
    return found


def host(name: str = "h1", **facts: Any) -> Host:
    """A host that has joined and speaks."""
    values = {
        "location": location(),
        "uuid": uuid.uuid4(),
        "boot_id": "boot-1",
        "network_mode": "routed",
        "cores": 4,
        "memory_mb": 8192,
        "disk_gb": 100,
        "disk_free_gb": 90,
        "accelerator": "tcg",
        "last_heartbeat": timezone.now(),
    }
    return Host.objects.create(name=name, **{**values, **facts})


def user_host(name: str = "u1", **facts: Any) -> Host:
    """A host without any privilege, which forwards ports."""
    values = {
        "network_mode": "vde",
        "forward_ip": "192.0.2.30",
        "first_forward_port": 30000,
        "last_forward_port": 30999,
        "cables": True,
    }
    return host(name, **{**values, **facts})


def pool(cidr: str = "203.0.113.0/28", **values: Any) -> Network:
    return Network.objects.create(
        **{"name": f"pool {cidr}", "location": location(), "ip_range": cidr, **values}
    )


def server_type(name: str = "nano", **sizes: int) -> ServerType:
    values = {"cores": 1, "memory_mb": 256, "disk_gb": 1, **sizes}
    found, _ = ServerType.objects.get_or_create(name=name, defaults=values)
    return found


def image(name: str = "micro", **values: Any) -> Image:
    facts = {
        "status": "available",
        "url": "http://192.0.2.2/micro.qcow2",
        "sha256": "ab" * 32,
        "bytes": 1000,
        "virtual_bytes": 64 * 2**20,
        "os_flavor": "debian",
    }
    return Image.objects.create(name=name, **{**facts, **values})


def order(name: str = "web-1", **values: Any) -> ServerOrder:
    image_ = values.pop("image", None) or Image.objects.filter(name="micro").first() or image()
    type_ = values.pop("server_type", None) or server_type()
    return ServerOrder(name=name, server_type=type_, image=image_, **values)


def ordered(name: str = "web-1", **values: Any) -> Ordered:
    """A server just asked for, on whatever hosts and pools exist."""
    return create_vm(project(), order(name, **values))


def report(vm: VM, **values: Any) -> VmReport:
    """What the VM's host would say when all is as wanted."""
    vm.refresh_from_db()
    facts = {
        "vm_id": vm.pk,
        "uuid": str(vm.uuid),
        "host_uuid": str(vm.host.uuid),
        "generation": vm.generation,
        "seq": vm.observed_seq + 1,
        "present": not vm.deleting,
        "power": Power.RUNNING if vm.goal == "running" else Power.OFF,
        "converged": True,
        "boot_id": "boot-1",
        "at": 0.0,
    }
    return VmReport(**{**facts, **values})
