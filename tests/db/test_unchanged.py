"""A host says in one report that all is as it said; whatever control missed is asked for again."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from cloud.models import Host
from networks.models import Replica
from networks.spec import NetworkReport
from tests import factories as make
from tests.db import mesh
from vms import reports
from vms.models import VM
from vms.spec import Power, SeenNetwork, SeenVm, UnchangedReport
from vms.unchanged import unchanged_report

pytestmark = [pytest.mark.django_db, pytest.mark.faults]
SENDER = "host-h1"
LONG_AGO = timezone.now() - timedelta(minutes=3)


@pytest.fixture
def vm() -> VM:
    make.host()
    make.pool()
    vm = make.ordered().vm
    reports.vm_report(make.report(vm), SENDER)
    VM.objects.update(observed_at=LONG_AGO, next_dispatch_at=LONG_AGO)
    vm.refresh_from_db()
    return vm


def unchanged(*vms: VM, sender: str = SENDER, **seen: Any) -> None:
    unchanged_report(
        UnchangedReport(
            host_uuid=str(vms[0].host.uuid),
            vms=tuple(
                SeenVm(**{"vm_id": vm.pk, "uuid": str(vm.uuid), "seq": vm.observed_seq, **seen})
                for vm in vms
            ),
        ),
        sender,
    )


def asked_for() -> list[int]:
    """The servers whose documents were sent again."""
    return list(VM.objects.filter(attempts__gt=0).values_list("pk", flat=True))


def seen_again(vm: VM) -> bool:
    observed: Any = VM.objects.get(pk=vm.pk).observed_at
    return bool(observed > LONG_AGO)


def test_what_is_as_it_was_was_seen_just_now(vm: VM) -> None:
    unchanged(vm)
    assert seen_again(vm)
    assert asked_for() == []


def test_a_server_whose_last_report_was_lost_is_asked_for_once(vm: VM) -> None:
    unchanged(vm, seq=vm.observed_seq + 1)
    unchanged(vm, seq=vm.observed_seq + 1)
    assert asked_for() == [vm.pk]
    assert VM.objects.get().attempts == 1
    assert not seen_again(vm)


def test_what_a_newer_report_overtook_says_nothing(vm: VM) -> None:
    unchanged(vm, seq=vm.observed_seq - 1)
    assert asked_for() == []
    assert not seen_again(vm)


def test_a_server_of_the_same_number_in_another_inventory_is_not_it(vm: VM) -> None:
    unchanged(vm, uuid=str(uuid.uuid4()), seq=vm.observed_seq + 1)
    unchanged(vm, uuid=str(uuid.uuid4()))
    assert asked_for() == []
    assert not seen_again(vm)


def test_no_host_speaks_for_another(vm: VM) -> None:
    make.host("h2")
    unchanged(vm, sender="host-h2", seq=vm.observed_seq + 1)
    unchanged(vm, sender="host-h2")
    unchanged(vm, sender="h1")
    assert asked_for() == []
    assert not seen_again(vm)


def test_servers_of_a_host_that_was_silent_are_known_again(vm: VM) -> None:
    VM.objects.update(status="unknown")
    unchanged(vm)
    assert VM.objects.get().status == "running"
    assert asked_for() == []


def test_what_the_host_itself_does_not_know_stays_unknown(vm: VM) -> None:
    reports.vm_report(make.report(vm, power=Power.UNKNOWN, converged=False), SENDER)
    vm.refresh_from_db()
    unchanged(vm)
    assert VM.objects.get().status == "unknown"
    assert asked_for() == []


def test_an_action_that_still_waits_gets_a_whole_report(vm: VM) -> None:
    second = make.ordered("web-2").vm
    reports.vm_report(make.report(second, converged=False, power=Power.OFF), SENDER)
    second.refresh_from_db()
    VM.objects.update(next_dispatch_at=LONG_AGO)
    unchanged(vm, second)
    assert asked_for() == [second.pk]


def test_networks_that_are_as_they_were_were_seen_just_now(vm: VM) -> None:
    first = Host.objects.get()
    Host.objects.filter(pk=first.pk).update(tunnel_key=mesh.key_of("h1"), tunnel_ip="100.64.0.1")
    whole, broken = (
        Replica.objects.create(network=mesh.network(name), host=first, generation=2)
        for name in ("one", "two")
    )
    for replica, good in ((whole, True), (broken, False)):
        report = NetworkReport(
            network_id=replica.network_id, host_uuid=str(first.uuid), generation=2,
            present=True, converged=good, at=0.0,
        )  # fmt: skip
        mesh.network_report(report, SENDER)
    Replica.objects.update(observed_at=LONG_AGO)
    seen = tuple(SeenNetwork(one.network_id, 2) for one in (whole, broken))
    unchanged_report(UnchangedReport(str(first.uuid), networks=seen), SENDER)
    assert [one.pk for one in Replica.objects.filter(observed_at__gt=LONG_AGO)] == [whole.pk]
