"""Servers in private networks, on a real database: at which addresses, by which interfaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from cloud.errors import InvalidInput, LimitExceeded, NotFound, ResourceUnavailable
from cloud.models import Action
from networks.models import Network, PrivateNetwork
from networks.spec import NicSpec
from tests import factories as make
from tests.db import mesh
from vms.actions import delete_vm
from vms.dispatch import spec_of
from vms.firewalls.actions import FirewallOrder, Target, apply_firewall, create_firewall
from vms.firewalls.membership import PrivateOnly
from vms.models import VM, Nic, PrivateAddress
from vms.private.actions import (
    RouteOrder,
    ServersAttached,
    SubnetOrder,
    add_route,
    add_subnet,
    change_ip_range,
    delete_network,
    delete_route,
    delete_subnet,
    update_network,
)
from vms.private.membership import (
    AlreadyAttached,
    IpNotAvailable,
    NetworksOverlap,
    NoSubnetAvailable,
    Seat,
)
from vms.private.servers import attach_to_network, change_alias_ips, detach_from_network

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def room(db: None) -> None:
    mesh.host(1)
    make.image()


def nics_of(vm: VM) -> tuple[NicSpec, ...]:
    return spec_of(VM.objects.for_spec().get(pk=vm.pk)).nics


def ips_of(vm: VM) -> list[str]:
    return [nic.private_ip for nic in vm.nics.filter(network__isnull=False)]


def test_a_server_is_made_with_an_interface_in_each_of_its_networks() -> None:
    first, second = mesh.network(), mesh.network("storage", "10.1.0.0/16")
    vm = mesh.server("web-1", first, second)
    one, two = nics_of(vm)
    assert (one.index, one.mode, one.network_id) == (1, "private", first.pk)
    assert (one.ipv4, one.prefix4, one.gateway) == ("10.0.0.2", 24, "10.0.0.1")
    assert one.routes == ("10.0.0.0/16",)
    assert (two.index, two.ipv4, two.network_id) == (2, "10.1.0.2", second.pk)
    assert one.mac != two.mac
    assert one.mtu == 1390


def test_a_server_keeps_the_other_interfaces_when_it_leaves_a_network() -> None:
    first, second = mesh.network(), mesh.network("storage", "10.1.0.0/16")
    vm = mesh.server("web-1", first, second)
    before = nics_of(vm)
    detach_from_network(vm, first)
    assert nics_of(vm) == before[1:]
    attach_to_network(vm, first)
    assert [nic.index for nic in nics_of(vm)] == [1, 2]


def test_a_running_server_gets_its_interface_beside_the_public_one() -> None:
    make.pool()
    vm = make.ordered().vm
    mesh.converge(vm)
    action = attach_to_network(vm, mesh.network())
    assert [nic.mode for nic in nics_of(vm)] == ["public_routed", "private"]
    assert (action.command, action.status) == ("attach_to_network", "running")
    mesh.converge(vm)
    action.refresh_from_db()
    assert action.status == "success"


def test_addresses_can_be_chosen_and_are_lent_in_order_otherwise() -> None:
    network = mesh.network(
        subnets=[SubnetOrder("cloud", "local", f"10.0.{n}.0/24") for n in (0, 1)]
    )
    taken = mesh.server("web-1")
    attach_to_network(taken, network, Seat(ip="10.0.0.2", alias_ips=["10.0.1.2"]))
    first, second = mesh.server("web-2"), mesh.server("web-3")
    attach_to_network(first, network)
    attach_to_network(second, network, Seat(ip_range="10.0.1.0/24"))
    assert ips_of(first) == ["10.0.0.3"]
    assert ips_of(second) == ["10.0.1.3"]
    assert nics_of(taken)[0].floating == ("10.0.1.2",)


@pytest.mark.parametrize(
    ("ip", "refusal"),
    [
        ("10.0.0.1", IpNotAvailable),  # the gateway's
        ("10.0.0.0", IpNotAvailable),
        ("10.0.0.255", IpNotAvailable),  # broadcast
        ("10.0.0.2", IpNotAvailable),  # taken
        ("10.0.7.9", IpNotAvailable),  # in no subnet
        ("192.0.2.1", IpNotAvailable),
        ("10.0.0", InvalidInput),
        ("2001:db8::1", InvalidInput),
    ],
)
def test_an_address_that_cannot_be_had_is_refused(ip: str, refusal: type[Exception]) -> None:
    network = mesh.network()
    mesh.server("web-1", network)
    vm = mesh.server("web-2")
    with pytest.raises(refusal):
        attach_to_network(vm, network, Seat(ip=ip))
    with pytest.raises(refusal):
        attach_to_network(vm, network, Seat(alias_ips=[ip]))
    assert not nics_of(vm)


def test_no_server_is_twice_in_a_network_or_in_overlapping_ones() -> None:
    network, same = mesh.network(), mesh.network("other", "10.0.0.0/8")
    vm = mesh.server("web-1", network)
    with pytest.raises(AlreadyAttached):
        attach_to_network(vm, network)
    with pytest.raises(NetworksOverlap):
        attach_to_network(vm, same)
    other = mesh.server("web-2", same)
    assert ips_of(vm) == ips_of(other) == ["10.0.0.2"]


def test_a_server_is_in_three_networks_at_most() -> None:
    networks = [mesh.network(f"net-{n}", f"10.{n}.0.0/16") for n in range(4)]
    vm = mesh.server("web-1", *networks[:3])
    with pytest.raises(LimitExceeded):
        attach_to_network(vm, networks[3])


def test_a_network_without_a_free_address_is_told_from_one_that_is_full() -> None:
    network = mesh.network(subnets=())
    vm, other = mesh.server("web-1"), mesh.server("web-2")
    with pytest.raises(NoSubnetAvailable):
        attach_to_network(vm, network)
    add_subnet(network, SubnetOrder("cloud", "local", "10.0.5.0/30"))
    attach_to_network(vm, network)
    assert ips_of(vm) == ["10.0.5.2"]
    with pytest.raises(NoSubnetAvailable):
        attach_to_network(other, network)


def test_a_host_outside_the_mesh_takes_no_members(db: None) -> None:
    network = mesh.network()
    vm = mesh.server("web-1")
    vm.host.tunnel_key = ""
    vm.host.save()
    with pytest.raises(InvalidInput, match="cannot reach private networks"):
        attach_to_network(vm, network)
    with pytest.raises(ResourceUnavailable, match="cannot reach private networks"):
        mesh.server("web-2", network)


def test_alias_ips_are_replaced_and_move_between_servers_at_once() -> None:
    network = mesh.network()
    one, two = mesh.server("web-1", network), mesh.server("web-2", network)
    change_alias_ips(one, network, ["10.0.0.100", "10.0.0.101"])
    with pytest.raises(IpNotAvailable):
        change_alias_ips(two, network, ["10.0.0.100"])
    change_alias_ips(one, network, ["10.0.0.101"])
    change_alias_ips(two, network, ["10.0.0.100"])
    assert nics_of(one)[0].floating == ("10.0.0.101",)
    assert nics_of(two)[0].floating == ("10.0.0.100",)
    with pytest.raises(LimitExceeded):
        change_alias_ips(one, network, [f"10.0.0.{n}" for n in range(110, 126)])


def test_the_database_itself_holds_each_address_once() -> None:
    network = mesh.network()
    one, two = (mesh.server(name, network).nics.get() for name in ("web-1", "web-2"))
    with pytest.raises(IntegrityError), transaction.atomic():
        PrivateAddress.objects.create(network=network, nic=two, ip="10.0.0.2", alias=True)
    with pytest.raises(IntegrityError), transaction.atomic():
        PrivateAddress.objects.create(network=network, nic=one, ip="10.0.0.9")
    with pytest.raises(IntegrityError), transaction.atomic():
        Nic.objects.create(vm=one.vm, index=2, network=network)


def test_routes_reach_the_guests_of_a_network() -> None:
    network = mesh.network()
    vm = mesh.server("web-1", network)
    add_route(network, RouteOrder("192.168.0.0/24", "10.0.0.2"))
    assert nics_of(vm)[0].routes == ("10.0.0.0/16", "192.168.0.0/24")
    assert VM.objects.get().generation == 2
    delete_route(network, RouteOrder("192.168.0.0/24", "10.0.0.2"))
    assert nics_of(vm)[0].routes == ("10.0.0.0/16",)


def test_the_way_out_is_by_a_network_only_where_there_is_no_public_one() -> None:
    network = mesh.network(egress=True)
    make.pool("203.0.113.0/28", dns=["203.0.113.53"])
    inner = mesh.server("web-1", network)
    outer = make.ordered("web-2", networks=(network,)).vm
    assert nics_of(inner)[0].routes == ("10.0.0.0/16", "0.0.0.0/0")
    assert "0.0.0.0/0" not in nics_of(outer)[1].routes
    update_network(network, egress=False)
    assert "0.0.0.0/0" not in nics_of(inner)[0].routes
    add_route(network, RouteOrder("0.0.0.0/0", "10.0.0.3"))
    assert nics_of(inner)[0].routes[-1] == "0.0.0.0/0"
    assert "0.0.0.0/0" not in nics_of(outer)[1].routes


def test_only_one_of_several_networks_leads_out() -> None:
    first, second = (mesh.network(f"n{n}", f"10.{n}.0.0/16", egress=True) for n in (1, 2))
    one, two = nics_of(mesh.server("web-1", first, second))
    assert ("0.0.0.0/0" in one.routes, "0.0.0.0/0" in two.routes) == (True, False)


def test_a_network_can_be_widened_but_not_into_another_one_of_its_members() -> None:
    network, other = mesh.network(), mesh.network("other", "10.1.0.0/16")
    vm = mesh.server("web-1", network, other)
    with pytest.raises(NetworksOverlap):
        change_ip_range(network, "10.0.0.0/8")
    detach_from_network(vm, other)
    change_ip_range(network, "10.0.0.0/8")
    assert nics_of(vm)[0].routes == ("10.0.0.0/8",)


def test_a_subnet_with_servers_stays() -> None:
    network = mesh.network()
    vm = mesh.server("web-1", network)
    with pytest.raises(ServersAttached, match="servers are attached"):
        delete_subnet(network, "10.0.0.0/24")
    detach_from_network(vm, network)
    delete_subnet(network, "10.0.0.0/24")
    assert not network.subnets.exists()


def test_deleting_a_network_detaches_its_servers() -> None:
    network = mesh.network()
    vm, going = mesh.server("web-1", network), mesh.server("web-2", network)
    delete_vm(going)
    (action,) = delete_network(network)
    assert (action.command, action.status) == ("detach_from_network", "running")
    mesh.converge(vm)
    action.refresh_from_db()
    assert action.status == "success"
    assert not nics_of(vm)
    assert not PrivateNetwork.objects.existing().exists()
    with pytest.raises(NotFound):
        attach_to_network(vm, network)
    assert mesh.network().pk != network.pk  # its name is free


def test_a_deleted_server_keeps_its_address_until_its_host_proved_that_it_is_gone() -> None:
    network = mesh.network()
    vm = mesh.server("web-1", network)
    delete_vm(vm)
    assert ips_of(mesh.server("web-2", network)) == ["10.0.0.3"]
    mesh.converge(vm)
    assert ips_of(mesh.server("web-3", network)) == ["10.0.0.2"]


def test_firewalls_guard_public_interfaces_alone() -> None:
    network = mesh.network()
    make.pool()
    firewall, _ = create_firewall(make.project(), FirewallOrder("web"))
    private = mesh.server("web-1", network)
    with pytest.raises(PrivateOnly):
        apply_firewall(firewall, [Target(server=private.pk)])
    both = make.ordered("web-2", networks=(network,)).vm
    apply_firewall(firewall, [Target(server=both.pk)])
    public, inner = nics_of(both)
    assert public.firewall is not None
    assert inner.firewall is None
    assert Network.objects.get().mode == "routed"


def test_attach_actions_of_a_new_server_end_with_it() -> None:
    network = mesh.network()
    vm = mesh.server("web-1", network)
    (action,) = Action.objects.of("network", network.pk)
    assert (action.command, action.status) == ("attach_to_network", "success")
    assert [one.resource_id for one in action.resources.filter(type="server")] == [vm.pk]


@pytest.mark.django_db(transaction=True)
def test_fifty_servers_that_join_at_once_get_fifty_addresses(
    parallel: Callable[..., list[Any]],
) -> None:
    network = mesh.network()
    servers = [mesh.server(f"web-{number}") for number in range(50)]
    results = parallel(lambda n: attach_to_network(servers[n], network), 50, at_once=10)
    assert not [result for result in results if isinstance(result, Exception)]
    ips = {str(address) for address in PrivateAddress.objects.all()}
    assert ips == {f"10.0.0.{n}" for n in range(2, 52)}


@pytest.mark.django_db(transaction=True)
def test_one_address_that_many_want_is_given_once(parallel: Callable[..., list[Any]]) -> None:
    network = mesh.network()
    servers = [mesh.server(f"web-{number}") for number in range(8)]
    results = parallel(lambda n: attach_to_network(servers[n], network, Seat("10.0.0.7")), 8)
    refused = [result for result in results if isinstance(result, IpNotAvailable)]
    assert len(refused) == 7
    assert PrivateAddress.objects.count() == 1
