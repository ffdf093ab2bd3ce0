"""A host that is destroyed takes its servers along, on an operator's word and on nothing less."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from kombu import Connection

from cloud.broker import declare_host
from cloud.celery import hint
from cloud.models import Action, AuditEntry, Host
from networks.models import Address, IpType, PrimaryIp, Replica, Withdrawal
from networks.public_ips import IpOrder, create_ip
from tests import factories as make
from tests.db import mesh
from tests.db.restoring import says, stranger
from vms import reports
from vms.actions import PowerCommand, delete_vm, power
from vms.attachments import PublicNet
from vms.floating_ips import create_floating_ip
from vms.models import VM, Holding, ImageCopy
from vms.private.actions import delete_network
from vms.reconcile import replication

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("rabbitmq")]


@pytest.fixture
def host() -> Host:
    make.pool()
    return mesh.host(1)


def silent(host: Host) -> None:
    Host.objects.filter(pk=host.pk).update(last_heartbeat=None)


def written_off(host: Host) -> str:
    said = StringIO()
    call_command("host_revoke", host.name, "--destroyed", "--yes", stdout=said)
    return said.getvalue()


def test_its_servers_are_forgotten_and_their_addresses_lent_again(host: Host) -> None:
    kept = create_ip(PrimaryIp, make.project(), IpOrder(IpType.IPV4, make.location()))
    going = make.ordered("going").vm
    staying = make.ordered("staying", public_net=PublicNet(primary4=kept)).vm
    floating, _ = create_floating_ip(make.project(), IpOrder(IpType.IPV4, make.location()), staying)
    for vm in (going, staying):
        reports.vm_report(make.report(vm), "host-h1")
    deletion, press = delete_vm(going), power(staying, PowerCommand.POWEROFF)
    silent(host)
    assert "its 2 servers are forgotten" in written_off(host)
    assert not VM.objects.exists()
    assert not Withdrawal.objects.exists()
    assert Action.objects.get(pk=deletion.pk).status == "success"
    assert Action.objects.get(pk=press.pk).error_code == "host_destroyed"
    # What users keep stays theirs, of the rest nothing is held.
    lent = {str(kept.address.ip), str(floating.address.ip)}
    assert {str(one.ip) for one in Address.objects.held()} == lent
    assert PrimaryIp.objects.with_server().get(pk=kept.pk).server_id is None
    verbs = AuditEntry.objects.order_by("pk").values_list("verb", flat=True)
    assert list(verbs.filter(verb="server.gone")) == ["server.gone"] * 2
    assert verbs.filter(verb="host.write_off").exists()


def test_a_network_that_it_had_can_end(host: Host) -> None:
    network = mesh.network()
    mesh.server("web-1", network, on=host)
    mesh.hosts_obey()
    delete_network(network)
    silent(host)
    assert replication.forget_deleted() == 0
    written_off(host)
    assert not Replica.objects.filter(converged=False).exists()
    assert replication.forget_deleted() > 0


def test_a_host_that_speaks_is_not_destroyed(host: Host) -> None:
    vm = make.ordered().vm
    with pytest.raises(CommandError, match="speaks, so it is not destroyed"):
        written_off(host)
    assert VM.objects.filter(pk=vm.pk).exists()


def test_nothing_is_forgotten_before_somebody_confirmed_it(host: Host) -> None:
    vm = make.ordered().vm
    silent(host)
    with pytest.raises(CommandError, match="repeat this with --yes"):
        call_command("host_revoke", host.name, "--destroyed", stdout=StringIO())
    assert VM.objects.filter(pk=vm.pk).exists()


def test_a_machine_that_comes_back_brings_no_server_back_to_life(host: Host) -> None:
    vm = make.ordered().vm
    report = make.report(vm)
    uuid = host.uuid
    ImageCopy.objects.create(image=vm.image, host=host, ready=True)
    silent(host)
    written_off(host)
    host.refresh_from_db()
    assert (host.uuid, host.revoked_at is None) == (None, False)
    assert not ImageCopy.objects.exists()
    Host.objects.update(revoked_at=None)
    host.uuid = uuid
    mesh.heartbeat_of(host)
    reports.vm_report(report, "host-h1")
    says(host, stranger(vm.pk, "203.0.113.1"))
    assert not VM.objects.exists()
    assert Holding.objects.get().vm_id == vm.pk
    assert host.drift.filter(direction="extra").exists()


def test_what_waited_for_it_is_dropped(host: Host, rabbitmq: str) -> None:
    declare_host(rabbitmq, host.name)
    with Connection(rabbitmq) as connection:
        queue = connection.default_channel
        queue.queue_purge(host.queue)
        assert hint(host.queue, "vms.ensure", {}, summary="of before")
        silent(host)
        written_off(host)
        assert queue.basic_get(host.queue) is None
