"""Addresses and firewalls together: who asked is known at both hosts of a move, no change waits in
a circle with another, and a server that could not be made keeps nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloud import requestid
from cloud.models import AuditEntry
from cloud.timeline import timeline_of
from cloud.wire import Cause, Failure, StepName
from networks.models import FloatingIp, IpType, PrimaryIp, Tenure
from networks.public_ips import IpOrder, create_ip, delete_ip
from tests import factories as make
from vms.actions import PowerCommand, create_vm, delete_vm, power, update_vm
from vms.attachments import PublicNet
from vms.dispatch import spec_of
from vms.firewalls.actions import FirewallOrder, Target, create_firewall, set_rules
from vms.floating_ips import assign_floating_ip, create_floating_ip
from vms.models import VM, FirewallUse
from vms.primary_ips import create_primary_ip, unassign_primary_ip
from vms.reports import vm_report

pytestmark = pytest.mark.django_db

HTTP = {"direction": "in", "protocol": "tcp", "port": "80", "source_ips": ["0.0.0.0/0"]}


@pytest.fixture(autouse=True)
def room(db: None) -> None:
    make.host(cores=100, memory_mb=2**20, disk_gb=1000)
    make.pool("203.0.113.0/24")
    make.pool("2001:db8::/48")


def says(vm: VM, **facts: Any) -> None:
    vm.refresh_from_db()
    vm_report(make.report(vm, **facts), f"host-{vm.host.name}")


def running(name: str) -> VM:
    vm = make.ordered(name).vm
    says(vm)
    return VM.objects.get(pk=vm.pk)


def switched_off(name: str) -> VM:
    vm = running(name)
    power(vm, PowerCommand.POWEROFF)
    says(vm, power="off")
    return VM.objects.get(pk=vm.pk)


def order(kind: IpType = IpType.IPV4) -> IpOrder:
    return IpOrder(kind, make.location())


def floating(vm: VM | None = None) -> FloatingIp:
    return create_floating_ip(make.project(), order(), vm)[0]


def test_both_hosts_of_a_move_know_who_asked_for_it() -> None:
    old, new = running("old"), running("new")
    ip = floating(old)
    with requestid.bound("req-move"):
        action = assign_floating_ip(ip, new)
    for vm in (old, new):
        told = spec_of(VM.objects.for_spec().get(pk=vm.pk))
        assert told.cause == Cause("req-move", action.pk)
    (queued,) = timeline_of(action).bars
    assert (queued.step.name, queued.step.host, queued.under_way) == (StepName.QUEUED, "h1", True)


def test_an_ip_made_for_a_server_is_of_a_pool_that_the_server_can_have() -> None:
    make.host("h2", network_mode="bridged", location=make.location("wired"))
    shared = {"location": make.location("wired")}
    make.pool("198.51.100.0/25", **shared)
    wire = {**shared, "mode": "bridged", "owner": make.project()}
    own = make.pool("198.51.100.128/28", gateway="198.51.100.129", **wire)
    vm = create_vm(make.project(), make.order("wired", **shared)).vm
    assert vm.nics.get().mode == "bridged"
    own.owner = None
    own.save()
    ip, _ = create_floating_ip(make.project(), IpOrder(IpType.IPV4, shared["location"]), vm)
    assert ip.address.network == own


def test_a_server_that_could_not_be_made_keeps_neither_floating_ips_nor_firewalls() -> None:
    vm = make.ordered("web-1").vm
    ip = floating(vm)
    create_firewall(make.project(), FirewallOrder("web", apply_to=(Target(server=vm.pk),)))
    failure = Failure("image_broken", "The image is broken.", retryable=False)
    says(vm, present=False, converged=False, failure=failure)
    assert not FirewallUse.objects.exists()
    assert FloatingIp.objects.get(pk=ip.pk).server_id is None
    assert Tenure.objects.get(address=ip.address, until=None).server_id is None
    (entry,) = AuditEntry.objects.filter(verb="floating_ip.unassign")
    assert (entry.before, entry.after) == ({"server_id": vm.pk}, {"server_id": None})


@pytest.mark.django_db(transaction=True)
def test_no_change_of_addresses_servers_and_firewalls_waits_in_a_circle(
    parallel: Callable[..., list[Any]],
) -> None:
    project = make.project()
    one, two, off = running("one"), running("two"), switched_off("off")
    moving, spare = floating(one), create_ip(PrimaryIp, project, order())
    own = PrimaryIp.objects.get(nic4__vm=off)
    web, _ = create_firewall(project, FirewallOrder("web", apply_to=(Target(selector="env"),)))
    works: list[Callable[[], object]] = [
        lambda: create_vm(project, make.order("new", labels={"env": "a"})),
        lambda: create_vm(
            project, make.order("kept", public_net=PublicNet(primary4=spare), labels={"env": "b"})
        ),
        lambda: create_floating_ip(project, order(), one),
        lambda: create_floating_ip(project, order(), two),
        lambda: assign_floating_ip(moving, two),
        lambda: update_vm(one, labels={"env": "c"}),
        lambda: update_vm(two, labels={"env": "d"}),
        lambda: set_rules(web, [HTTP]),
        lambda: unassign_primary_ip(own),
        lambda: create_primary_ip(project, order(IpType.IPV6)),
        lambda: says(one),
        lambda: delete_vm(two),
        lambda: delete_ip(create_ip(FloatingIp, project, order())),
    ]
    done = parallel(lambda number: works[number](), len(works))
    # Whoever comes after the deletion, or meets the move halfway, is told so.
    refused = {type(error).__name__ for error in done if isinstance(error, Exception)}
    assert refused <= {"Locked", "Conflict"}
    guarded = set(FirewallUse.objects.filter(firewall=web).values_list("vm__name", flat=True))
    assert {"new", "kept", "one"} <= guarded
