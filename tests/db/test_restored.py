"""After the restore of an older inventory nothing that runs is lost, and nothing is lent twice.

Hosts are played: each test says what they hold, as `vms.host.census` would.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone
from msgspec import structs

from cloud.drift import Drift
from cloud.errors import ResourceUnavailable
from cloud.models import Action, AuditEntry, Host
from networks.allocation import Unverified
from networks.models import Address, IpType, PrimaryIp, Withdrawal
from networks.public_ips import IpOrder, create_ip
from tests import factories as make
from tests.db import mesh
from tests.db.restoring import held, restored, running, says, speak, stranger
from vms import dispatch, reconcile, reports
from vms.actions import PowerCommand, delete_vm, power
from vms.attachments import HeldElsewhere, PublicNet
from vms.drift import repair
from vms.drift.spec import HeldNetwork, HeldPrivate
from vms.errands import NotOnHost, NotVerified
from vms.models import VM, ForwardedPort, Holding
from vms.private import replication
from vms.private.membership import IpNotAvailable, Seat
from vms.private.servers import attach_to_network
from vms.restored import verify
from vms.restored.apart import Marks, set_apart

pytestmark = [pytest.mark.django_db, pytest.mark.faults]


@pytest.fixture
def host() -> Host:
    host = make.host()
    make.pool("203.0.113.0/28")
    return host


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What hosts are told: task and document."""
    told: list[tuple[str, dict[str, Any]]] = []

    def hint(queue: str, task: str, document: dict[str, Any], *, summary: str) -> bool:
        told.append((task, document))
        return True

    for module in (dispatch, verify, replication, repair):
        monkeypatch.setattr(module, "hint", hint)
    return told


def swept(sent: list[tuple[str, dict[str, Any]]], django_capture_on_commit_callbacks: Any) -> Any:
    speak()
    moment = timezone.now() + timedelta(seconds=10)
    with django_capture_on_commit_callbacks(execute=True):
        reconcile.dispatch_due_vms(moment)
    return [(task, document["vm_id"]) for task, document in sent]


def test_no_host_is_told_anything_before_it_said_what_it_has(
    host: Host, sent: Any, django_capture_on_commit_callbacks: Any
) -> None:
    vm = running("web-1")
    restored()
    assert swept(sent, django_capture_on_commit_callbacks) == []
    vm.refresh_from_db()
    assert (vm.status, vm.held_back) == ("unknown", "unverified")
    assert verify.ask_unverified(timezone.now()) == 1
    task, question = sent[0]
    assert task == "hosts.look"
    assert list(question["servers"]) == [str(vm.uuid)]
    assert question["question"]


def test_a_server_that_is_as_it_was_is_told_with_a_number_that_its_host_accepts(
    host: Host, sent: Any, django_capture_on_commit_callbacks: Any
) -> None:
    vm = running("web-1")
    restored()
    newest = held(vm, power="off")
    with django_capture_on_commit_callbacks(execute=True):
        says(host, structs.replace(newest, generation=10**15, reset_serial=4))
    vm.refresh_from_db()
    assert vm.held_back == ""
    assert [task for task, _ in sent] == ["vms.ensure"]
    document = sent[0][1]
    assert document["generation"] > 10**15
    assert document["power"] == "off", "its user switched it off after the backup"
    assert document["reset_serial"] == 4, "or the next reset would be none"
    assert AuditEntry.objects.filter(verb="server.verify", resource_id=vm.pk).exists()


def test_an_answer_to_an_older_question_verifies_nothing(host: Host) -> None:
    vm = running("web-1")
    restored()
    says(host, asked=False)
    vm.refresh_from_db()
    host.refresh_from_db()
    assert vm.held_back == "unverified"
    assert host.unverified_since


def test_what_was_under_way_ends_as_a_typed_failure(host: Host) -> None:
    make.ordered("web-1")
    restored()
    assert not Action.objects.open().exists()
    assert set(Action.objects.values_list("error_code", flat=True)) == {"inventory_restored"}


def test_no_address_is_lent_and_no_server_placed_before_hosts_answered(host: Host) -> None:
    vm = running("web-1")
    restored()
    speak()
    with pytest.raises(ResourceUnavailable, match="has not said yet what it has"):
        make.ordered("too-early")
    with pytest.raises(Unverified, match="until these hosts have said what they have: h1"):
        make_primary_ip()
    says(host, held(vm))
    speak()
    make.ordered("in-time")
    make_primary_ip()


def make_primary_ip() -> PrimaryIp:
    return create_ip(PrimaryIp, make.project(), IpOrder(IpType.IPV4, make.location()))


def test_a_host_that_is_gone_for_good_is_waited_for_until_it_is_cut_off(host: Host) -> None:
    running("web-1")
    other = make.host("h2")
    restored()
    says(host, held(VM.objects.get()))
    speak()
    with pytest.raises(ResourceUnavailable, match="h2"):
        make.ordered("too-early")
    Host.objects.filter(pk=other.pk).update(revoked_at=timezone.now())
    make.ordered("in-time")


def test_a_host_that_was_cut_off_before_the_backup_is_asked_once_it_is_taken_back(
    host: Host, sent: Any
) -> None:
    vm = running("web-1")
    Host.objects.update(revoked_at=timezone.now())
    restored()
    with pytest.raises(ResourceUnavailable):
        make.ordered("no-host")
    Host.objects.update(revoked_at=None)
    speak()
    assert verify.ask_unverified(timezone.now()) == 1
    says(host, held(vm))
    power(vm, PowerCommand.REBOOT)


def test_what_a_server_made_after_the_backup_holds_is_nobody_elses(host: Host) -> None:
    running("web-1")
    restored()
    taken = [f"203.0.113.{number}" for number in (1, 2, 4)]
    says(host, held(VM.objects.get()), stranger(50, *taken))
    speak()
    lent = {str(make.ordered(f"new-{n}").vm.nics.get().ipv4.address) for n in range(4)}
    assert not lent & set(taken)
    assert Holding.objects.get().addresses == taken
    # It is ended by its operator: only then are its addresses free.
    says(host, held(VM.objects.get(name="web-1")))
    assert not Holding.objects.exists()
    assert Address.objects.held().filter(ip__in=taken).count() == 1  # that of web-1


def test_numbers_go_on_above_those_that_hosts_may_have(host: Host) -> None:
    vm = running("web-1")
    marks = Marks({"vms_vm_id_seq": vm.pk + 500}, generation=10**15)
    set_apart(marks, timezone.now())
    vm.refresh_from_db()
    assert vm.generation > 10**15
    says(host, held(vm))
    speak()
    assert make.ordered("new").vm.pk > vm.pk + 100_500


def test_a_server_deleted_after_the_backup_is_never_made_anew(
    host: Host, sent: Any, django_capture_on_commit_callbacks: Any
) -> None:
    vm = running("web-1")
    restored()
    with django_capture_on_commit_callbacks(execute=True):
        says(host, removed=(str(vm.uuid),))
    assert swept(sent, django_capture_on_commit_callbacks) == []
    vm.refresh_from_db()
    assert (vm.held_back, vm.failure_code, vm.status) == ("gone", "server_not_on_host", "unknown")
    assert "it was deleted after the backup was made" in vm.failure_message
    with pytest.raises(NotOnHost, match="delete it"):
        power(vm, PowerCommand.POWERON)
    with django_capture_on_commit_callbacks(execute=True):
        assert delete_vm(vm).status == "running"
    assert [task for task, _ in sent] == ["vms.remove"]
    reports.vm_report(make.report(vm), "host-h1")
    assert not VM.objects.exists()


def test_a_lost_disk_is_told_from_a_deletion(host: Host) -> None:
    vm = running("web-1")
    restored()
    says(host)
    vm.refresh_from_db()
    assert "its disk is lost" in vm.failure_message


def test_a_server_that_was_being_deleted_still_is(
    host: Host, sent: Any, django_capture_on_commit_callbacks: Any
) -> None:
    vm = running("web-1")
    delete_vm(vm)
    restored()
    assert swept(sent, django_capture_on_commit_callbacks) == []
    vm.refresh_from_db()
    says(host, held(vm))
    assert swept(sent, django_capture_on_commit_callbacks) == [("vms.remove", vm.pk)]


def test_nobody_uses_a_server_before_its_host_answered_but_may_delete_it(host: Host) -> None:
    vm = running("web-1")
    restored()
    with pytest.raises(NotVerified, match="host h1 has not said yet"):
        power(vm, PowerCommand.POWEROFF)
    assert delete_vm(vm).status == "running"


def test_a_server_whose_addresses_moved_goes_on_as_it_is_until_it_is_asked_for_something(
    host: Host, sent: Any, django_capture_on_commit_callbacks: Any
) -> None:
    vm = running("web-1")
    mine = str(vm.nics.get().ipv4.address)
    restored()
    speak()
    with django_capture_on_commit_callbacks(execute=True):
        says(host, held(vm, addresses=("203.0.113.9",)))
    assert swept(sent, django_capture_on_commit_callbacks) == []
    vm.refresh_from_db()
    assert (vm.held_back, vm.failure_code) == ("differs", "server_differs_on_host")
    assert (vm.status, vm.observed_power) == ("running", "running")
    reports.vm_report(make.report(vm, generation=9), "host-h1")
    vm.refresh_from_db()
    assert f"with 203.0.113.9, the inventory with {mine}" in vm.failure_message
    speak()
    lent = [str(make.ordered(f"new-{n}").vm.nics.get().ipv4.address) for n in range(8)]
    assert "203.0.113.9" not in lent
    sent.clear()
    with django_capture_on_commit_callbacks(execute=True):
        power(vm, PowerCommand.REBOOT)
    assert sent[-1][1]["nics"][0]["ipv4"] == mine
    says(host, held(vm))
    assert not Holding.objects.exists()
    assert not Address.objects.held().filter(ip="203.0.113.9").exists()


def test_a_primary_ip_that_an_unknown_server_has_is_not_given_to_a_second_one(
    host: Host,
) -> None:
    vm = running("web-1")
    spare = make_primary_ip()
    restored()
    says(host, held(vm), stranger(50, str(spare.address)))
    speak()
    with pytest.raises(HeldElsewhere, match="is still that of server #50"):
        make.ordered("new", public_net=PublicNet(primary4=spare))
    says(host, held(vm))
    speak()
    make.ordered("new", public_net=PublicNet(primary4=spare))


def test_ports_of_a_host_that_lead_to_an_unknown_server_are_not_lent() -> None:
    host = make.user_host(last_forward_port=30003)
    vm = make.ordered("web-1").vm
    reports.vm_report(make.report(vm), "host-u1")
    restored()
    says(host, held(vm), stranger(50, ports=("tcp/30001", "tcp/30002")))
    speak()
    assert ForwardedPort.objects.get(nic__vm=make.ordered("new").vm).port == 30003


def test_a_private_network_that_only_unknown_servers_are_in_is_not_taken_from_its_host(
    sent: Any, django_capture_on_commit_callbacks: Any
) -> None:
    here, there = mesh.host(1), mesh.host(2)
    make.image()
    network = mesh.network()
    vm = mesh.server("web-1", network, on=here)
    reports.vm_report(make.report(vm), "host-h1")
    restored()
    known = HeldNetwork(network.pk, generation=10**15)
    unknown = stranger(50, private=(HeldPrivate(network.pk, ("10.0.0.9",)),))
    says(here, held(vm), networks=(known,))
    says(there, unknown, networks=(known,))
    sent.clear()
    later = timezone.now() + timedelta(minutes=10)
    speak(later)
    with django_capture_on_commit_callbacks(execute=True):
        replication.dispatch_due(later, observed_before=later)
    told = [(task, document["host_uuid"]) for task, document in sent]
    assert told == [("networks.ensure", str(here.uuid))]
    assert sent[0][1]["generation"] > 10**15
    speak()
    with pytest.raises(IpNotAvailable, match="the inventory does not know"):
        attach_to_network(mesh.server("new", on=here), network, Seat(ip="10.0.0.9"))


def test_a_network_is_taken_from_its_host_once_the_unknown_server_is_gone(
    sent: Any, django_capture_on_commit_callbacks: Any
) -> None:
    host = mesh.host(1)
    network = mesh.network()
    restored()
    unknown = stranger(50, private=(HeldPrivate(network.pk, ("10.0.0.9",)),))
    says(host, unknown, networks=(HeldNetwork(network.pk, generation=5),))
    says(host, networks=(HeldNetwork(network.pk, generation=5),))
    sent.clear()
    later = timezone.now() + timedelta(minutes=10)
    speak(later)
    with django_capture_on_commit_callbacks(execute=True):
        replication.dispatch_due(later, observed_before=later)
    assert [task for task, _ in sent] == ["networks.remove"]


def test_a_network_that_nobody_on_the_host_is_in_is_taken_from_it(
    sent: Any, django_capture_on_commit_callbacks: Any
) -> None:
    host = mesh.host(1)
    network = mesh.network()
    restored()
    says(host, networks=(HeldNetwork(network.pk, generation=5),))
    sent.clear()
    later = timezone.now() + timedelta(minutes=10)
    speak(later)
    with django_capture_on_commit_callbacks(execute=True):
        replication.dispatch_due(later, observed_before=later)
    assert [task for task, _ in sent] == ["networks.remove"]


def test_an_older_generation_of_a_withdrawal_proves_nothing_any_more(host: Host) -> None:
    vm = running("web-1")
    address = vm.nics.get().ipv4.address
    Withdrawal.objects.create(address=address, server_id=vm.pk, generation=2)
    restored()
    vm.refresh_from_db()
    reports.vm_report(make.report(vm, generation=9), "host-h1")
    assert Withdrawal.objects.exists()


def test_what_a_server_had_that_ended_meanwhile_is_free_though_its_host_said_so_late(
    host: Host,
) -> None:
    vm = running("web-1")
    had = held(vm, addresses=("203.0.113.1",))
    delete_vm(vm)
    vm.refresh_from_db()
    reports.vm_report(make.report(vm, present=False, power="off"), "host-h1")
    assert not VM.objects.exists()
    says(host, had, asked=False)
    assert not Holding.objects.exists()
    assert str(make.ordered("new").vm.nics.get().ipv4.address) == "203.0.113.1"


def test_nothing_is_repaired_on_a_host_by_what_was_seen_before_the_restore(
    host: Host, sent: Any
) -> None:
    row = Drift.objects.create(
        host=host, kind="server", name="7", direction="extra", server_id=7, uuid=uuid4(),
        generation=3, verb="remove_server", reason="it was deleted",
        first_seen=timezone.now() - timedelta(hours=1),
    )  # fmt: skip
    restored()
    speak()
    assert repair.carry_out(repair.plan([row])) == 0
    assert sent == []


def test_an_unknown_server_is_noted_without_a_restore_as_well(host: Host) -> None:
    says(host, stranger(50, "203.0.113.1"), asked=False)
    assert Holding.objects.get().vm_id == 50
    assert str(make.ordered("new").vm.nics.get().ipv4.address) == "203.0.113.2"
