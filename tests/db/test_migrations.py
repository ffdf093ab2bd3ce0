"""A cloud that runs is upgraded in place: what its rows meant before, they mean afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from cloud.models import Host
from networks.models import Address, Tenure
from tests.db import mesh
from vms.dispatch import spec_of
from vms.models import VM
from vms.private.servers import attach_to_network

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE_PRIMARY_IPS = [
    ("cloud", "0003_audit"),
    ("networks", "0001_inventory"),
    ("vms", "0003_usage"),
]


def migrate(targets: list[tuple[str, str]]) -> Any:
    """Bring the schema there; answers the models of that time."""
    executor = MigrationExecutor(connection)
    executor.migrate(targets)
    return executor.loader.project_state(targets).apps


BEFORE_PRIVATE_NETWORKS = [
    ("cloud", "0004_host_leftovers"),
    ("networks", "0004_firewalls"),
    ("vms", "0006_firewalls"),
]


@pytest.fixture
def old(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The models of a time, in a database of that time."""
    newest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    yield migrate(request.param)
    migrate(newest)


@pytest.mark.parametrize("old", [BEFORE_PRIMARY_IPS], indirect=True)
def test_servers_of_before_primary_ips_keep_their_addresses(old: Any) -> None:
    now = timezone.now()
    project = old.get_model("cloud", "Project").objects.create(name="default")
    place = old.get_model("cloud", "Location").objects.create(name="lab")
    host = old.get_model("cloud", "Host").objects.create(
        name="h1", location=place, uuid="9f0ab3a8-59a7-4f6e-94c1-1f1a52ad4c51"
    )
    pool = old.get_model("networks", "Network").objects.create(
        name="pool", location=place, ip_range="203.0.113.0/24"
    )
    lendings = old.get_model("networks", "Address").objects
    image = old.get_model("vms", "Image").objects.create(
        name="micro", url="http://192.0.2.2/m", sha256="ab" * 32, bytes=1, virtual_bytes=1
    )
    size = old.get_model("vms", "ServerType").objects.create(
        name="nano", cores=1, memory_mb=256, disk_gb=1
    )
    ended = {"held_since": now - timedelta(days=1), "released_at": now}
    lendings.create(
        network=pool, project=project, ip="203.0.113.1", holder="server web-0 #7", **ended
    )
    for number, deleting in ((1, False), (2, True)):
        name = f"web-{number}"
        vm = old.get_model("vms", "VM").objects.create(
            project=project, name=name, host=host, server_type=size, image=image, cores=1,
            memory_mb=256, disk_gb=1, deleting=deleting,
        )  # fmt: skip
        old.get_model("vms", "Disk").objects.create(vm=vm, size_gb=1)
        address = lendings.create(
            network=pool, project=project, ip=f"203.0.113.{number}", holder=f"server {name} #1"
        )
        mac = f"02:00:00:00:00:0{number}"
        old.get_model("vms", "Nic").objects.create(vm=vm, address=address, mac=mac)

    migrate(MigrationExecutor(connection).loader.graph.leaf_nodes())

    vm = VM.objects.for_spec().get(name="web-1")
    nic = vm.nics.get()
    assert (nic.ipv4.auto_delete, nic.ipv4.location_id) == (True, place.pk)
    assert nic.ipv4.name == f"primary_ip-{nic.ipv4.address_id}"
    (told,) = spec_of(vm).nics
    assert (told.ipv4, told.mac) == ("203.0.113.1", "02:00:00:00:00:01")
    states = Address.objects.order_by("pk").values_list("state", flat=True)
    assert list(states) == ["released", "held", "quarantine"]
    story = Tenure.objects.filter(address__ip="203.0.113.1").order_by("since")
    assert [(one.server_name, one.server_id, one.host_name) for one in story] == [
        ("web-0", 7, ""),
        ("web-1", vm.pk, "h1"),
    ]


@pytest.mark.parametrize("old", [BEFORE_PRIVATE_NETWORKS], indirect=True)
def test_servers_of_before_private_networks_can_join_one(old: Any) -> None:
    project = old.get_model("cloud", "Project").objects.create(name="default")
    place = old.get_model("cloud", "Location").objects.create(name="lab")
    hosts = old.get_model("cloud", "Host").objects
    for number in (1, 2):
        host = hosts.create(
            name=f"h{number}", location=place, uuid=uuid.uuid4(), network_mode="routed"
        )
    image = old.get_model("vms", "Image").objects.create(
        name="micro", url="http://192.0.2.2/m", sha256="ab" * 32, bytes=1, virtual_bytes=1
    )
    size = old.get_model("vms", "ServerType").objects.create(
        name="nano", cores=1, memory_mb=256, disk_gb=1
    )
    vm = old.get_model("vms", "VM").objects.create(
        project=project, name="web-1", host=host, server_type=size, image=image, cores=1,
        memory_mb=256, disk_gb=1,
    )  # fmt: skip
    old.get_model("vms", "Disk").objects.create(vm=vm, size_gb=1)
    old.get_model("vms", "Nic").objects.create(vm=vm, mac="02:00:00:00:00:01")

    migrate(MigrationExecutor(connection).loader.graph.leaf_nodes())

    Host.objects.filter(name="h2").update(**mesh.facts(2))
    attach_to_network(VM.objects.get(), mesh.network())
    (told,) = spec_of(VM.objects.for_spec().get()).nics
    assert (told.mode, told.index, told.ipv4) == ("private", 1, "10.0.0.2")
