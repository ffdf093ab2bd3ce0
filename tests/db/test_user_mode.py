"""What a host in user mode cannot give is refused with the reason, or given elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from cloud.errors import InvalidInput, ResourceUnavailable
from cloud.models import Host
from networks.models import FloatingIp, IpType, PrimaryIp
from networks.public_ips import IpOrder, create_ip
from tests import factories as make
from tests.db import mesh
from tests.db.test_forwarded_ports import SSH, document, running, says
from vms.actions import PowerCommand, create_vm, power, update_vm
from vms.attachments import PublicNet
from vms.firewalls.actions import FirewallOrder, Target, apply_firewall, create_firewall
from vms.firewalls.effective import firewall_states
from vms.firewalls.membership import Unenforceable
from vms.floating_ips import assign_floating_ip, create_floating_ip
from vms.models import VM, FirewallUse
from vms.ports import Forward
from vms.primary_ips import assign_primary_ip, create_primary_ip
from vms.private.servers import attach_to_network

pytestmark = [pytest.mark.django_db, pytest.mark.rootless]

LED, OTHER = "198.51.100.128/28", "203.0.113.0/28"
HTTP = Forward("tcp", 80)
NOWHERE = PublicNet(ipv4=False, ipv6=False)


def order(kind: IpType = IpType.IPV4) -> IpOrder:
    return IpOrder(kind, make.location())


def tapped(name: str = "u1", **facts: Any) -> Host:
    """A host in user mode, with a TAP that two pools lead to."""
    ranges = ["198.51.100.128/27", "2001:db8:1::/48"]
    return make.user_host(name, public_ranges=ranges, **facts)


def addresses(vm: VM) -> list[str]:
    return [text for nic in vm.nics.all() for text in nic.lent]


@pytest.fixture
def pools() -> None:
    make.pool(OTHER)
    make.pool(LED)
    make.pool("2001:db8:1::/56")
    make.pool("2001:db8:2::/56")


def test_a_prepared_tap_gives_addresses_of_the_pools_that_are_led_to_it(pools: None) -> None:
    tapped()
    vm = running(public_net=PublicNet(required=True))
    assert addresses(vm) == ["198.51.100.129", "2001:db8:1::/64"]
    (nic,) = document(vm).nics
    assert (nic.mode, nic.gateway, nic.forwards) == ("public_routed", "172.31.1.1", ())


def test_an_address_that_is_led_to_a_tap_is_given_by_no_other_host(pools: None) -> None:
    tapped(schedulable=False)
    make.host()
    assert addresses(running("web-1")) == ["203.0.113.1", "2001:db8:2::/64"]
    floating = create_floating_ip(make.project(), order(), VM.objects.get())[0]
    assert str(floating.address) == "203.0.113.2"
    led = create_ip(PrimaryIp, make.project(), order())
    while str(led.address) != "198.51.100.129":
        led = create_ip(PrimaryIp, make.project(), order())
    with pytest.raises(ResourceUnavailable, match="h1: cannot give the addresses: they are led to"):
        make.ordered("web-2", public_net=PublicNet(primary4=led))
    Host.objects.filter(name="u1").update(schedulable=True)
    assert make.ordered("web-3", public_net=PublicNet(primary4=led)).vm.host.name == "u1"


def test_what_a_host_says_of_its_tap_takes_no_addresses_from_another_location(pools: None) -> None:
    everything = ["0.0.0.0/1", "128.0.0.0/1"]
    make.user_host("liar", location=make.location("attic"), public_ranges=everything)
    make.host()
    vm = running("web-1")
    assert (vm.host.name, addresses(vm)[0]) == ("h1", "203.0.113.1")
    assert str(create_floating_ip(make.project(), order(), vm)[0].address) == "203.0.113.2"


def test_a_pool_that_lies_only_partly_in_what_is_led_to_a_tap_is_not_used() -> None:
    tapped()
    make.pool("198.51.100.0/24")
    with pytest.raises(ResourceUnavailable, match="no TAP that root prepared"):
        make.ordered()


def test_floating_ips_get_to_a_tap_only_if_their_pool_is_led_there(pools: None) -> None:
    tapped()
    vm = running()
    floating = create_floating_ip(make.project(), order(), vm)[0]
    assert str(floating.address) == "198.51.100.130"
    assert document(vm).nics[0].floating == ("198.51.100.130",)
    other = create_ip(FloatingIp, make.project(), order())
    with pytest.raises(InvalidInput, match=f"addresses of pool pool {OTHER} do not get to host u1"):
        assign_floating_ip(other, vm)


def test_no_address_is_led_to_a_server_that_is_behind_its_host(pools: None) -> None:
    make.user_host()
    vm = running(public_net=PublicNet(forwarded=(SSH,)))
    with pytest.raises(InvalidInput, match="is behind the address of its host u1"):
        create_floating_ip(make.project(), order(), vm)
    floating = create_ip(FloatingIp, make.project(), order())
    with pytest.raises(InvalidInput, match="create another server for addresses of its own"):
        assign_floating_ip(floating, vm)
    power(vm, PowerCommand.POWEROFF)
    says(vm, power="off")
    vm.refresh_from_db()
    with pytest.raises(InvalidInput, match="is behind the address of its host u1"):
        create_primary_ip(make.project(), order(), vm)
    primary = create_ip(PrimaryIp, make.project(), order())
    with pytest.raises(InvalidInput, match="is behind the address of its host u1"):
        assign_primary_ip(primary, vm)
    assert vm.nics.get().mode == "user"


def test_a_primary_ip_is_refused_to_a_host_that_it_does_not_get_to(pools: None) -> None:
    make.user_host(**mesh.facts(1))
    vm = create_vm(make.project(), make.order(start=False, public_net=NOWHERE)).vm
    says(vm)
    primary = create_ip(PrimaryIp, make.project(), order())
    with pytest.raises(InvalidInput, match="do not get to host u1"):
        assign_primary_ip(primary, vm)


def firewall(*targets: Target, name: str = "web") -> Any:
    return create_firewall(make.project(), FirewallOrder(name, apply_to=targets))[0]


def test_a_firewall_never_seems_applied_to_a_server_whose_host_enforces_none() -> None:
    make.user_host()
    vm = running(labels={"env": "prod"})
    web = firewall()
    reason = "host u1 of server web-1 is in user mode and enforces no firewalls"
    for target in (Target(server=vm.pk), Target(selector="env=prod")):
        with pytest.raises(Unenforceable, match=reason):
            apply_firewall(web, [target])
        with pytest.raises(Unenforceable, match=reason):
            firewall(target, name="other")
    apply_firewall(web, [Target(selector="tier=web")])
    with pytest.raises(Unenforceable, match=reason):
        update_vm(vm, labels={"tier": "web"})
    assert VM.objects.get().labels == {"env": "prod"}
    assert not FirewallUse.objects.exists()


def test_a_server_that_a_firewall_guards_is_placed_where_firewalls_are_enforced() -> None:
    make.user_host(memory_mb=2**20)
    web = firewall(Target(selector="tier=web"))
    for facts in ({"firewalls": (web,)}, {"labels": {"tier": "web"}}):
        with pytest.raises(ResourceUnavailable, match="u1: is in user mode, and enforces no fire"):
            make.ordered(**facts)
        with pytest.raises(ResourceUnavailable, match="enforces no firewalls"):
            make.ordered(**facts, public_net=PublicNet(forwarded=(SSH,)))
    make.host()
    make.pool()
    assert make.ordered("web-1", firewalls=(web,)).vm.host.name == "h1"
    assert make.ordered("web-2", labels={"tier": "web"}).vm.host.name == "h1"


def test_a_firewall_of_a_host_that_lost_its_privileges_is_shown_as_pending() -> None:
    make.host()
    make.pool()
    web = firewall()
    vm = running(firewalls=(web,))
    assert firewall_states(VM.objects.for_spec().get()) == {web.pk: True}
    Host.objects.update(network_mode="vde")
    assert firewall_states(VM.objects.for_spec().get()) == {web.pk: False}
    update_vm(vm, labels={"env": "prod"})  # what is there already hinders nothing


def test_a_type_with_limits_is_placed_where_traffic_is_limited() -> None:
    make.user_host(memory_mb=2**20)
    slow = make.server_type("slow", mbit_out=10)
    with pytest.raises(ResourceUnavailable, match="cannot limit traffic as the server type says"):
        make.ordered(server_type=slow)
    make.host()
    make.pool()
    assert make.ordered(server_type=slow).vm.host.name == "h1"


def test_a_host_without_cables_reaches_no_private_network() -> None:
    make.user_host(cables=False)
    network = mesh.network()
    with pytest.raises(ResourceUnavailable, match="u1: cannot reach private networks: its agent"):
        make.ordered(networks=(network,))
    vm = running()
    with pytest.raises(InvalidInput, match="its agent lays no cables"):
        attach_to_network(vm, network)


def test_a_problem_that_a_host_reports_is_the_reason_in_its_own_words() -> None:
    mends = "No vde_switch: `apt install vde2` mends that."
    make.user_host(problems=[{"code": "vde_missing", "message": mends}])
    with pytest.raises(ResourceUnavailable, match=f"u1: {mends}"):
        make.ordered(networks=(mesh.network(),))
