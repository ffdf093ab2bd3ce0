"""The inventory of a large cloud that is at rest, made by the models themselves.

`python -m deploy.benchmarks.fleet.inventory fill ...`, in control's environment, because the
benchmark itself has no Django. Prints JSON: what `hosts.py` has to know to play the hosts.
"""

from __future__ import annotations

import json
import time
from typing import Any

import django
import typer

django.setup()

from django.db import connection, transaction  # noqa: E402  (needs the models)
from django.test.utils import CaptureQueriesContext  # noqa: E402
from django.utils import timezone  # noqa: E402

from cloud.models import Host, Location, Project  # noqa: E402
from cloud.tokens import issue_token  # noqa: E402
from deploy.benchmarks.fleet.names import BOOT_ID, FIRST_SEQ, uuid_of  # noqa: E402
from networks.models import PrivateNetwork, Replica, Subnet  # noqa: E402
from vms.models import VM, Disk, Image, ImageCopy, Nic, ServerType  # noqa: E402
from vms.reconcile import sweep  # noqa: E402
from vms.spec import Power  # noqa: E402

app = typer.Typer()


_NETWORKS_OF_A_HOST = 4
_SHA256 = "ab" * 32


@app.command()
def fill(hosts: int, vms: int, open_hosts: int) -> None:
    """Hosts that have joined, with servers, networks and images that are as they should be.

    The last `open_hosts` of them have no server and take new ones, the others do not.
    """
    with transaction.atomic():
        place = Location.objects.create(name="fleet")
        names = [f"f{number:04d}" for number in range(1, hosts + 1)]
        machines = Host.objects.bulk_create(
            _host(name, place, number > hosts - open_hosts) for number, name in enumerate(names, 1)
        )
        closed, image = machines[: hosts - open_hosts], _image(machines)
        servers = _servers(closed, vms, image)
        networks = _networks(closed)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    told: dict[int, list[Any]] = {host.pk: [] for host in machines}
    for server in servers:
        told[server.host_id].append([server.pk, str(server.uuid), server.generation])
    print(
        json.dumps(
            {
                "token": issue_token(Project.objects.get(), "benchmark"),
                "hosts": [
                    {
                        "name": host.name,
                        "uuid": str(host.uuid),
                        "open": host.schedulable,
                        "vms": told[host.pk],
                        "networks": networks.get(host.pk, []),
                    }
                    for host in machines
                ],
            }
        )
    )


@app.command()
def sweeps(count: int, changed: int) -> None:
    """Sweep so often, each time with so many servers that have changed; prints milliseconds and
    statements of each. One before them is not counted, because it connects."""
    sweep()
    found = []
    for _ in range(count):
        some = VM.objects.filter(converged=True)[:changed].values("pk")
        VM.objects.filter(pk__in=some).update(converged=False, next_dispatch_at=timezone.now())
        began = time.perf_counter()
        with CaptureQueriesContext(connection) as queries:
            sweep()
        found.append([1000 * (time.perf_counter() - began), len(queries)])
    print(json.dumps(found))


def _host(name: str, place: Location, is_open: bool) -> Host:
    return Host(
        name=name,
        location=place,
        schedulable=is_open,
        uuid=uuid_of(name),
        boot_id=BOOT_ID,
        network_mode="routed",
        cores=64,
        memory_mb=512 * 1024,
        disk_gb=8192,
        accelerator="kvm",
        last_heartbeat=timezone.now(),
    )


def _image(machines: list[Host]) -> Image:
    image = Image.objects.create(
        name="fleet", status=Image.Status.AVAILABLE, url="http://192.0.2.2/fleet.qcow2",
        sha256=_SHA256, bytes=1000, virtual_bytes=2**20, os_flavor="debian",
    )  # fmt: skip
    ImageCopy.objects.bulk_create(
        ImageCopy(image=image, host=host, ready=True, progress=100) for host in machines
    )
    return image


def _servers(machines: list[Host], count: int, image: Image) -> list[VM]:
    now, project = timezone.now(), Project.objects.get_or_create(name="default")[0]
    kind = ServerType.objects.get(name="nano")
    servers = VM.objects.bulk_create(
        [
            VM(
                project=project, name=f"server-{number}", host=machines[number % len(machines)],
                server_type=kind, image=image, cores=1, memory_mb=256, disk_gb=1,
                observed_generation=1, applied_generation=1, observed_seq=FIRST_SEQ,
                observed_power=Power.RUNNING,
                observed_at=now, converged=True, converged_at=now, provisioned=True,
                status="running",
            )
            for number in range(count)
        ],
        batch_size=1000,
    )  # fmt: skip
    Disk.objects.bulk_create([Disk(vm=vm, size_gb=1) for vm in servers], batch_size=1000)
    Nic.objects.bulk_create(
        [Nic(vm=vm, index=0, mac=f"02:00:00:{vm.pk >> 16 & 255:02x}:{vm.pk >> 8 & 255:02x}:"
             f"{vm.pk & 255:02x}", behind_host=True) for vm in servers],
        batch_size=1000,
    )  # fmt: skip
    return servers


def _networks(machines: list[Host]) -> dict[int, list[list[int]]]:
    """Each host has a part of some networks; by host, the networks and their generations."""
    project, now = Project.objects.get(), timezone.now()
    networks = [
        PrivateNetwork.objects.create(
            project=project, name=f"network-{number}", ip_range="10.0.0.0/16", vni=number + 1
        )
        for number in range(max(len(machines) // 5, _NETWORKS_OF_A_HOST))
    ]
    Subnet.objects.bulk_create(
        Subnet(network=network, network_zone="fleet", ip_range="10.0.1.0/24")
        for network in networks
    )
    found: dict[int, list[list[int]]] = {}
    replicas = []
    for number, host in enumerate(machines):
        for step in range(_NETWORKS_OF_A_HOST):
            network = networks[(number + step) % len(networks)]
            replicas.append(
                Replica(network=network, host=host, generation=1, observed_generation=1,
                        converged=True, observed_at=now)
            )  # fmt: skip
            found.setdefault(host.pk, []).append([network.pk, 1])
    Replica.objects.bulk_create(replicas, batch_size=1000)
    return found


if __name__ == "__main__":
    app()
