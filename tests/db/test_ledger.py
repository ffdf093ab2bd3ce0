"""The ledger: an address is lent again only after every host proved that it let go, and who held
it at what time stays known when everything else is gone."""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone

from cloud.models import Action
from cloud.wire import Failure, decode, encode
from networks.models import Address, FloatingIp, IpType, PrimaryIp, PublicIp, Tenure
from networks.public_ips import IpOrder, create_ip, delete_ip, update_ip
from networks.spec import NicReport
from tests import factories as make
from vms import reports
from vms.actions import PowerCommand, create_vm, delete_vm, power
from vms.attachments import PublicNet
from vms.dispatch import spec_of
from vms.floating_ips import assign_floating_ip, create_floating_ip, unassign_floating_ip
from vms.lifecycle import Status
from vms.models import VM, Nic
from vms.primary_ips import assign_primary_ip, unassign_primary_ip

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def cloud(db: None) -> None:
    make.host("h1")
    make.pool("203.0.113.0/24")
    make.pool("2001:db8::/48")


def says(vm: VM, **facts: Any) -> None:
    """The VM's host reports; by default that all is as wanted."""
    reports.vm_report(make.report(vm, **facts), f"host-{vm.host.name}")


def running(name: str = "web-1", **values: Any) -> VM:
    vm = make.ordered(name, **values).vm
    says(vm)
    vm.refresh_from_db()
    return vm


def switched_off(vm: VM) -> VM:
    power(vm, PowerCommand.POWEROFF)
    says(vm)
    vm.refresh_from_db()
    return vm


def on_other_host(name: str) -> VM:
    make.host("h2", disk_gb=1000, memory_mb=100_000)
    vm = running(name)
    assert vm.host.name == "h2"
    return vm


def floating(vm: VM | None = None) -> FloatingIp:
    return create_floating_ip(make.project(), IpOrder(IpType.IPV4, make.location()), vm)[0]


def state(ip: PublicIp) -> str:
    return Address.objects.get(pk=ip.address_id).state


def ended(action: Action) -> str:
    action.refresh_from_db()
    return action.status


def told(vm: VM) -> Any:
    """The one NIC as the VM's host is told, over the wire and back."""
    fresh = VM.objects.for_spec().get(pk=vm.pk)
    (nic,) = decode(encode(spec_of(fresh)), type(spec_of(fresh))).nics
    return nic


def test_a_deleted_servers_addresses_are_in_quarantine_until_its_host_proves_its_end() -> None:
    vm = running()
    nic = vm.nics.get()
    delete_vm(vm)
    assert state(nic.ipv4) == state(nic.ipv6) == "quarantine"
    assert str(running("web-2").nics.get().ipv4.address) == "203.0.113.2"
    says(vm)
    assert state(nic.ipv4) == state(nic.ipv6) == "released"
    assert str(running("web-3").nics.get().ipv4.address) == "203.0.113.1"


def test_a_primary_ip_that_is_to_stay_outlives_its_server() -> None:
    vm = running()
    ip = update_ip(vm.nics.get().ipv4, auto_delete=False)
    delete_vm(vm)
    says(vm)
    ip = PrimaryIp.objects.with_server().get()
    assert (ip.server_id, state(ip)) == (None, "held")
    again = running("web-2", public_net=PublicNet(primary4=ip))
    assert str(again.nics.get().ipv4.address) == "203.0.113.1"


def test_a_change_of_mind_while_the_server_is_being_deleted_counts() -> None:
    vm = running()
    nic = vm.nics.get()
    update_ip(nic.ipv6, auto_delete=False)
    delete_vm(vm)
    update_ip(nic.ipv4, auto_delete=False)
    update_ip(nic.ipv6, auto_delete=True)
    says(vm)
    assert (state(nic.ipv4), state(nic.ipv6)) == ("held", "released")
    assert PrimaryIp.objects.get() == nic.ipv4


def test_an_unassigned_ip_is_not_lent_again_before_the_host_let_go_of_it() -> None:
    vm = switched_off(running())
    ip = vm.nics.get().ipv4
    action = unassign_primary_ip(ip)
    assert told(vm).ipv4 is None
    delete_ip(ip)
    assert state(ip) == "quarantine"
    says(vm, generation=1)
    assert (state(ip), ended(action)) == ("quarantine", "running")
    says(vm)
    assert (state(ip), ended(action)) == ("released", "success")


def test_what_an_earlier_host_lets_go_of_is_not_free_while_a_later_one_has_it() -> None:
    first, second = switched_off(running("first")), switched_off(running("second"))
    ip, spare = first.nics.get().ipv4, second.nics.get().ipv4
    unassign_primary_ip(spare)
    unassign_primary_ip(ip)
    assign_primary_ip(ip, second)
    delete_vm(second)
    says(first)
    assert state(ip) == "quarantine"
    says(second)
    assert state(ip) == "released"


def test_an_ip_that_no_host_ever_had_is_lent_again_at_once() -> None:
    ip = floating()
    delete_ip(ip)
    assert state(ip) == "released"


def test_a_server_without_addresses_keeps_its_interface_for_the_next_one() -> None:
    vm = switched_off(running())
    nic = vm.nics.get()
    for ip in nic.primary_ips:
        unassign_primary_ip(ip)
        says(vm)
    assert spec_of(VM.objects.for_spec().get()).nics == ()
    action = assign_primary_ip(nic.ipv4, vm)
    assert (told(vm).mac, told(vm).ipv4, told(vm).ipv6) == (nic.mac, "203.0.113.1", None)
    says(vm)
    assert ended(action) == "success"


def test_a_moved_ip_is_told_to_both_hosts_and_ends_when_both_have_done_it() -> None:
    old = running("old")
    ip = floating(old)
    says(old)
    new = on_other_host("new")
    action = assign_floating_ip(ip, new)
    assert (told(old).floating, told(new).floating) == ((), (str(ip.address),))
    old.refresh_from_db()
    assert (old.generation, old.converged) == (3, False)
    says(new)
    assert ended(action) == "running"
    says(old)
    assert ended(action) == "success"


def test_the_order_in_which_hosts_carry_out_a_move_does_not_matter() -> None:
    old = running("old")
    ip = floating(old)
    says(old)
    new = on_other_host("new")
    action = assign_floating_ip(ip, new)
    says(old)
    assert ended(action) == "running"
    says(new)
    assert ended(action) == "success"


def test_a_move_that_is_overtaken_by_another_ends_too() -> None:
    first, second, third = running("first"), running("second"), running("third")
    ip = floating(first)
    moves = [assign_floating_ip(ip, second), assign_floating_ip(ip, third)]
    says(second)
    assert [ended(move) for move in moves] == ["running", "running"]
    says(first)
    says(third)
    assert [ended(move) for move in moves] == ["success", "success"]


def test_away_from_a_silent_host_an_ip_moves_without_it() -> None:
    old = running("old")
    ip = floating(old)
    says(old)
    new = on_other_host("new")
    old.host.last_heartbeat = timezone.now().replace(year=2020)
    old.host.save()
    action = assign_floating_ip(ip, new)
    says(new)
    assert ended(action) == "success"
    unassign_floating_ip(ip)
    delete_ip(ip)
    says(new)
    # Nobody knows whether the silent host still has it.
    assert state(ip) == "quarantine"
    says(old)
    assert state(ip) == "released"


def test_a_moved_ip_ends_when_the_old_server_is_gone() -> None:
    old = running("old")
    ip = floating(old)
    says(old)
    new = on_other_host("new")
    action = assign_floating_ip(ip, new)
    delete_vm(old)
    says(new)
    assert ended(action) == "running"
    says(old)
    assert ended(action) == "success"


def test_a_deleted_server_lets_its_floating_ip_move_on_at_once() -> None:
    old = running("old")
    ip = floating(old)
    new = running("new")
    delete_vm(old)
    assert FloatingIp.objects.with_server().get().server_id is None
    assign_floating_ip(ip, new)
    assert told(new).floating == (str(ip.address),)
    says(old)
    assert FloatingIp.objects.with_server().get().server_id == new.pk


def test_a_server_that_could_not_be_made_gives_everything_back() -> None:
    vm = make.ordered().vm
    ip = floating(vm)
    nic = vm.nics.get()
    failure = Failure("image_corrupt", "checksum differs", retryable=False)
    says(vm, converged=False, power="off", failure=failure)
    assert FloatingIp.objects.with_server().get().server_id is None
    says(vm)
    assert (state(nic.ipv4), state(nic.ipv6), state(ip)) == ("released", "released", "held")


def story(ip: str, at: datetime | None = None) -> list[tuple[str, str, str]]:
    tenures = Tenure.objects.of(ip_address(ip))
    if at:
        tenures = tenures.at(at)
    return [(one.project_name, one.server_name, one.host_name) for one in tenures]


def test_who_held_an_address_at_any_time_is_known_after_everything_is_gone() -> None:
    old = running("old")
    ip = floating(old)
    says(old)
    first = timezone.now()
    new = on_other_host("new")
    assign_floating_ip(ip, new)
    says(new)
    second = timezone.now()
    for vm in (old, new):
        delete_vm(vm)
        says(vm)
    third = timezone.now()
    delete_ip(ip)
    assert not VM.objects.exists()
    assert not FloatingIp.objects.exists()
    address = str(ip.address)
    assert story(address, first) == [("default", "old", "h1")]
    assert story(address, second) == [("default", "new", "h2")]
    assert story(address, third) == [("default", "", "")]
    assert story(address, timezone.now()) == []
    assert story("203.0.113.1") == [("default", "old", "h1")]
    assert story("2001:db8::9", first) == [("default", "old", "h1")]
    assert Tenure.objects.filter(address=ip.address_id, holder_id=ip.pk).count() == 4


def test_the_address_of_a_second_lending_has_two_stories() -> None:
    for name in ("first", "second"):
        vm = create_vm(make.project(name), make.order(name)).vm
        delete_vm(vm)
        says(vm)
    assert story("203.0.113.1") == [("first", "first", "h1"), ("second", "second", "h1")]


def test_a_host_is_told_all_that_an_interface_needs() -> None:
    kind = make.server_type("limited", mbit_in=100, mbit_out=50)
    vm = running(server_type=kind)
    ip = floating(vm)
    make_six = IpOrder(IpType.IPV6, make.location())
    six = create_floating_ip(make.project(), make_six, vm)[0]
    nic = told(vm)
    assert (nic.mode, nic.ipv4, nic.prefix4) == ("public_routed", "203.0.113.1", 32)
    assert (nic.gateway, nic.gateway6, nic.dhcp) == ("172.31.1.1", "fe80::1", False)
    assert nic.ipv6 == "2001:db8::/64"
    assert nic.floating == (str(ip.address), str(six.address))
    assert (nic.mbit_in, nic.mbit_out) == (100, 50)


def test_a_bridged_interface_has_the_prefix_and_the_gateway_of_its_network() -> None:
    make.host("h3", network_mode="bridged", location=make.location("moon"))
    pool = {"mode": "bridged", "location": make.location("moon")}
    make.pool("198.51.100.0/25", gateway="198.51.100.126", dns=["198.51.100.53"], **pool)
    make.pool("2001:db8:1::/60", gateway="fe80::7", dns=["2001:db8::53"], **pool)
    nic = told(running(location=make.location("moon")))
    assert (nic.mode, nic.ipv4, nic.prefix4) == ("public_bridged", "198.51.100.1", 25)
    assert (nic.gateway, nic.gateway6) == ("198.51.100.126", "fe80::7")
    assert nic.ipv6 == "2001:db8:1::/64"
    assert nic.dns == ("198.51.100.53", "2001:db8::53")
    assert nic.leased_from is None


def test_a_host_is_told_which_addresses_the_outside_network_can_give() -> None:
    make.host("h3", network_mode="bridged", location=make.location("moon"))
    wire = {"mode": "bridged", "dhcp": True, "location": make.location("moon")}
    make.pool("198.51.100.0/25", gateway="198.51.100.126", **wire)
    nic = told(running(location=make.location("moon")))
    assert (nic.dhcp, nic.leased_from) == (True, "198.51.100.0/25")
    assert nic.gateway == "198.51.100.126"


def test_what_a_host_saw_at_an_interface_is_kept() -> None:
    vm = running()
    seen = NicReport(index=0, learned=("203.0.113.77",), dropped={"mac": 3, "ra": 0})
    says(vm, nics=(seen, NicReport(index=5)))
    nic = Nic.objects.get()
    assert (nic.learned, nic.dropped) == (["203.0.113.77"], {"mac": 3, "ra": 0})
    assert vm.status == Status.RUNNING
    says(vm)
    assert Nic.objects.get().learned == ["203.0.113.77"]


def test_an_ip_that_is_kept_is_not_lent_to_anybody_else() -> None:
    kept = create_ip(PrimaryIp, make.project(), IpOrder(IpType.IPV4, make.location()))
    assert str(kept.address) == "203.0.113.1"
    assert str(running().nics.get().ipv4.address) == "203.0.113.2"


def test_a_server_of_before_the_clock_was_set_back_can_be_deleted_and_its_address_lent() -> None:
    vm = running()
    hour = timedelta(hours=1)
    Address.objects.update(held_since=F("held_since") + hour)
    Tenure.objects.update(since=F("since") + hour)
    delete_vm(vm)
    vm.refresh_from_db()
    says(vm, present=False, power="off")
    assert not VM.objects.exists()
    assert not Address.objects.exclude(state=Address.State.RELEASED).exists()
    assert all(tenure.until == tenure.since for tenure in Tenure.objects.all())
