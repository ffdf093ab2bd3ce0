"""What hosts say after a restore; tests play what they hold, as `vms.host.census` would tell it."""

from __future__ import annotations

from datetime import datetime
from itertools import count
from typing import Any
from uuid import uuid4

from django.utils import timezone

from cloud.models import Host
from tests import factories as make
from vms import dispatch, reports
from vms.drift import claims
from vms.drift.record import host_inventory
from vms.drift.spec import HeldServer, HostInventory, Kind, Thing
from vms.models import VM
from vms.restored.apart import Marks, set_apart

_numbers = count(2)


def running(name: str) -> VM:
    vm = make.ordered(name).vm
    reports.vm_report(make.report(vm), "host-h1")
    return VM.objects.for_spec().get(pk=vm.pk)


def held(vm: VM, **values: Any) -> HeldServer:
    """What the host's document of the server says."""
    spec = dispatch.spec_of(VM.objects.for_spec().get(pk=vm.pk))
    facts = {
        "power": spec.power,
        "addresses": claims.addresses_of(spec),
        "ports": claims.ports_of(spec),
        "private": claims.private_of(spec),
        **values,
    }
    return HeldServer(vm.pk, str(vm.uuid), vm.generation, **facts)


def stranger(vm_id: int, *addresses: str, **values: Any) -> HeldServer:
    return HeldServer(vm_id, str(uuid4()), 7, addresses=addresses, power="running", **values)


def says(host: Host, *servers: HeldServer, asked: bool = True, **values: Any) -> None:
    host.refresh_from_db()
    question = host.unverified_since.isoformat() if asked and host.unverified_since else ""
    things = [Thing(Kind.PROCESS, one.uuid, server=one.vm_id, uuid=one.uuid) for one in servers]
    report = HostInventory(
        host_uuid=str(host.uuid),
        boot_id="boot-1",
        seq=next(_numbers),
        things=tuple(things),
        servers=servers,
        answers=question,
        **values,
    )
    host_inventory(report, f"host-{host.name}")


def restored() -> None:
    """As if all that was done to the rows so far were from the backup."""
    set_apart(Marks(), timezone.now())


def speak(moment: datetime | None = None) -> None:
    Host.objects.update(last_heartbeat=moment or timezone.now())
