"""Differences are kept with their age, judged by what is known, and healed where it is safe."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cloud.drift import Drift, Survey
from cloud.errors import Conflict
from cloud.models import AuditEntry, Host
from cloud.wire import decode
from tests import factories as make
from tests.db import mesh
from vms import dispatch, reports
from vms.actions import PowerCommand, delete_vm, power
from vms.drift import repair
from vms.drift.record import MOST_ROWS, forget_closed, host_inventory
from vms.drift.spec import (
    HeldNetwork,
    HeldServer,
    HostInventory,
    InventoryRequest,
    Kind,
    StrayRemoval,
    StraySpec,
    Thing,
)
from vms.drift.wanted import of_network, of_server
from vms.host.paths import tap_name
from vms.models import VM
from vms.private.documents import documents_of
from vms.spec import VmRemoval, VmSpec

pytestmark = pytest.mark.django_db


@pytest.fixture
def vm() -> VM:
    """A server that runs."""
    make.host()
    make.pool()
    vm = make.ordered().vm
    reports.vm_report(make.report(vm), "host-h1")
    vm.refresh_from_db()
    return vm


def spec(vm: VM) -> VmSpec:
    return dispatch.spec_of(VM.objects.for_spec().get(pk=vm.pk))


def told(
    vm: VM, *lost: Kind, more: tuple[Thing, ...] = (), sender: str = "host-h1", **facts: Any
) -> None:
    """The host says that it has all of the server, but for `lost`, and `more`."""
    have = [one for one in of_server(spec(vm), user_mode=False) if one.kind not in lost]
    survey = Survey.objects.filter(host=vm.host).first()
    values = {
        "host_uuid": str(vm.host.uuid),
        "boot_id": "b",
        "seq": max(survey.seq if survey else 0, int(time.time() * 1000)) + 1,
        "things": (*have, *more),
        "servers": (HeldServer(vm.pk, str(vm.uuid), vm.generation),),
        **facts,
    }
    host_inventory(HostInventory(**values), sender)


def standing() -> list[str]:
    return [str(row) for row in Drift.objects.standing().order_by("kind", "name")]


def only() -> Drift:
    return Drift.objects.standing().get()


def as_if_seen_for(seconds: float) -> None:
    Drift.objects.update(first_seen=timezone.now() - timedelta(seconds=seconds))


def test_a_host_that_has_what_it_should_have_leaves_no_row(vm: VM) -> None:
    told(vm)
    assert standing() == []
    assert Survey.objects.get().at


def test_a_difference_is_a_row_with_an_age_until_it_vanishes(vm: VM) -> None:
    told(vm, Kind.PROCESS)
    first = only()
    assert (first.direction, first.kind, first.verb) == ("missing", "process", "send_server")
    assert not first.confirmed
    as_if_seen_for(60)
    told(vm, Kind.PROCESS)
    again = only()
    assert again.pk == first.pk
    assert again.confirmed
    assert again.last_seen - again.first_seen >= timedelta(seconds=60)
    told(vm)
    assert standing() == []
    again.refresh_from_db()
    assert again.closed_at


def test_a_difference_that_comes_back_is_young_again(vm: VM) -> None:
    told(vm, Kind.PROCESS)
    as_if_seen_for(600)
    told(vm)
    told(vm, Kind.PROCESS)
    assert timezone.now() - only().first_seen < timedelta(seconds=60)
    assert Drift.objects.count() == 1


def test_work_under_way_is_no_drift(vm: VM) -> None:
    power(vm, PowerCommand.POWEROFF)
    told(vm, Kind.PROCESS, Kind.TAP)
    assert standing() == []
    vm.refresh_from_db()
    reports.vm_report(make.report(vm, power="off"), "host-h1")
    told(vm, servers=(HeldServer(vm.pk, str(vm.uuid), vm.generation),))
    assert standing() == []


def test_a_server_that_is_wanted_off_and_runs_is_drift(vm: VM) -> None:
    power(vm, PowerCommand.POWEROFF)
    vm.refresh_from_db()
    running = Thing(Kind.PROCESS, str(vm.uuid), server=vm.pk, uuid=str(vm.uuid))
    reports.vm_report(make.report(vm, power="off"), "host-h1")
    told(vm, more=(running,))
    assert only().verb == "send_server"


def test_silence_of_a_host_is_no_drift_and_changes_none(vm: VM) -> None:
    told(vm, Kind.PROCESS)
    Host.objects.update(last_heartbeat=timezone.now() - timedelta(hours=1))
    row = only()
    assert repair.carry_out(repair.plan([row])) == 0
    with pytest.raises(Conflict, match="does not speak"):
        repair.repair(row)
    assert only().closed_at is None


def test_what_could_not_be_looked_at_stays_as_it_was(vm: VM) -> None:
    told(vm, Kind.PROCESS)
    told(vm, unseen=(Kind.PROCESS,))
    assert only().kind == "process"


def test_a_foreign_sender_and_an_old_inventory_change_nothing(vm: VM) -> None:
    told(vm, Kind.PROCESS, sender="host-h2")
    assert standing() == []
    told(vm)
    told(vm, Kind.PROCESS, seq=5)
    assert standing() == []


def test_a_host_that_restarted_with_its_clock_set_back_is_heard(vm: VM) -> None:
    told(vm)
    told(vm, Kind.TAP, seq=5, boot_id="another")
    # By its numbers the server's own report is later, but that the server is held is said here.
    assert standing() == [f"missing tap {tap_name(vm.pk, 0)} on h1"]


def test_a_server_unknown_to_the_inventory_goes_to_the_quarantine(vm: VM) -> None:
    other = "11111111-2222-3333-4444-555555555555"
    unknown = Thing(Kind.PROCESS, other, server=999, uuid=other)
    held = (HeldServer(vm.pk, str(vm.uuid), vm.generation), HeldServer(999, other, 4))
    told(vm, more=(unknown,), servers=held)
    as_if_seen_for(60)
    told(vm, more=(unknown,), servers=held)
    row = Drift.objects.quarantined().get()
    assert (row.server_id, row.generation) == (999, 4)
    assert repair.plan([row]) == []
    with pytest.raises(Conflict, match="nothing safe"):
        repair.repair(row)


def test_what_is_marked_as_known_is_listed_no_more_even_if_it_comes_back(vm: VM) -> None:
    stray = Thing(Kind.BRIDGE, "docker0")
    told(vm, more=(stray,))
    row = only()
    repair.keep(row)
    assert standing() == []
    told(vm)
    told(vm, more=(stray,))
    assert standing() == []
    row.refresh_from_db()
    repair.watch(row)
    assert standing() == ["extra bridge docker0 on h1"]
    verbs = list(AuditEntry.objects.filter(resource_type="drift").values_list("verb", flat=True))
    assert sorted(verbs) == ["drift.keep", "drift.watch"]


@pytest.mark.usefixtures("rabbitmq")
def test_what_is_left_of_a_deleted_server_is_removed_once_it_was_seen_twice(vm: VM) -> None:
    gone = make.ordered("web-2").vm
    reports.vm_report(make.report(gone), "host-h1")
    number, uuid = gone.pk, str(gone.uuid)
    delete_vm(gone)
    reports.vm_report(make.report(gone), "host-h1")
    left = Thing(Kind.PROCESS, uuid, server=number, uuid=uuid)
    tap = Thing(Kind.TAP, tap_name(number, 0), server=number, marked=True)
    told(vm, more=(left, tap))
    assert repair.plan(Drift.objects.standing()) == []
    with pytest.raises(Conflict, match="seen only once"):
        repair.repair(Drift.objects.standing()[0])
    as_if_seen_for(60)
    told(vm, more=(left, tap))
    with mesh.listening() as heard:
        assert repair.carry_out(repair.plan(Drift.objects.standing())) == 2
    removal, strays = sorted(heard.others, key=lambda sent: sent[1] == "strays.remove")
    assert removal[:2] == ("h1", "vms.remove")
    assert decode(removal[2], VmRemoval).uuid == uuid
    assert strays[:2] == ("h1", "strays.remove")
    assert decode(strays[2], StrayRemoval).strays == (StraySpec("interface", tap.name),)


@pytest.mark.usefixtures("rabbitmq")
def test_what_is_missing_is_sent_again_and_its_host_asked_to_look(vm: VM) -> None:
    told(vm, Kind.PROCESS, Kind.RULES)
    with mesh.listening() as heard:
        repair.repair(Drift.objects.standing()[0])
    (sent,) = heard.servers
    assert sent == ("h1", spec(vm))
    ((_, task, document),) = heard.others
    assert (task, decode(document, InventoryRequest).host_uuid) == ("hosts.look", str(vm.host.uuid))
    assert AuditEntry.objects.filter(verb="drift.repair").count() == 1


def test_a_lost_disk_is_told_and_not_repaired(vm: VM) -> None:
    told(vm, Kind.DISK, Kind.PROCESS)
    rows = Drift.objects.standing()
    assert {row.verb for row in rows} == {"nothing"}
    assert all(row.reason.startswith("disk_lost") for row in rows)
    assert spec(vm).provisioned


def test_the_same_network_is_judged_on_each_of_its_hosts() -> None:
    hosts = [mesh.host(1), mesh.host(2)]
    make.image()
    network = mesh.network()
    vms = [mesh.server(f"m-{host.name}", network, on=host) for host in hosts]
    mesh.converge(*vms)
    mesh.hosts_obey()
    host, vm = hosts[0], vms[0]
    vm.refresh_from_db()
    document = documents_of(network, timezone.now())[host.pk]
    replica = host.replicas.get()
    have = list(of_network(document, [(vm.nics.get(network=network).mac, tap_name(vm.pk, 1))]))
    lost = next(one for one in have if one.kind is Kind.FDB and "00:00:00:00:00:00" in one.name)
    seen = {
        "more": tuple(one for one in have if one != lost),
        "networks": (HeldNetwork(network.pk, replica.generation),),
        "sender": f"host-{host.name}",
    }
    told(vm, **seen)
    assert standing() == [f"missing fdb {lost.name} on {host.name}"]
    (order,) = repair.plan([only()])
    assert str(order) == f"{host.name}: send the document of network #{network.pk} again"
    told(vm, **{**seen, "more": tuple(have)})
    assert standing() == []


def test_a_host_that_lies_gets_so_many_rows_and_no_more(vm: VM) -> None:
    many = tuple(Thing(Kind.BRIDGE, f"br{number}") for number in range(MOST_ROWS + 7))
    told(vm, more=many)
    assert Drift.objects.count() == MOST_ROWS
    assert Survey.objects.get().left_out == 7


def test_a_host_that_tells_of_ever_other_things_does_not_fill_the_database(vm: VM) -> None:
    for turn in range(4):
        many = (Thing(Kind.BRIDGE, f"br{turn}-{number}") for number in range(MOST_ROWS))
        told(vm, more=tuple(many))
    assert Drift.objects.count() <= 3 * MOST_ROWS
    assert Drift.objects.standing().count() == MOST_ROWS


def test_what_vanished_long_ago_is_forgotten_but_for_what_is_known(vm: VM) -> None:
    told(vm, more=(Thing(Kind.BRIDGE, "br0"), Thing(Kind.BRIDGE, "docker0")))
    repair.keep(Drift.objects.get(name="docker0"))
    told(vm)
    assert forget_closed(timezone.now() + timedelta(days=8)) == 1
    assert Drift.objects.get().name == "docker0"


def test_a_look_costs_the_same_number_of_queries_however_many_servers(vm: VM) -> None:
    told(vm)
    with CaptureQueriesContext(connection) as alone:
        told(vm)
    make.pool("203.0.113.64/26")
    others = [make.ordered(f"more-{number}").vm for number in range(6)]
    for other in others:
        reports.vm_report(make.report(other), "host-h1")
    theirs = [thing for other in others for thing in of_server(spec(other), user_mode=False)]
    held = tuple(HeldServer(one.pk, str(one.uuid), one.generation) for one in (vm, *others))
    told(vm, more=tuple(theirs), servers=held)
    with CaptureQueriesContext(connection) as together:
        told(vm, more=tuple(theirs), servers=held)
    assert standing() == []
    assert len(together) == len(alone) <= 24


@pytest.mark.usefixtures("rabbitmq")
def test_the_command_lists_and_ends_as_diff_does(vm: VM, capsys: Any) -> None:
    Host.objects.update(last_heartbeat=timezone.now() - timedelta(hours=1))
    call_command("drift")
    out, err = capsys.readouterr()
    assert "No drift" in out
    assert "is silent" in err
    told(vm, Kind.PROCESS)
    with pytest.raises(SystemExit, match="1"):
        call_command("drift", "--json")
    row = json.loads(capsys.readouterr().out)
    assert (row["host"]["name"], row["kind"], row["direction"]) == ("h1", "process", "missing")
    with pytest.raises(SystemExit, match="1"):
        call_command("drift", "--host", "h1")
    assert "repair: its server's document" in capsys.readouterr().out
