"""What each host is told about private networks: just what it needs, and until it obeys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cloud.errors import CumuletError
from cloud.models import Host
from networks.models import PrivateNetwork, Replica
from networks.spec import NetworkRemoval, NetworkSpec
from tests import factories as make
from tests.db import mesh
from vms import reconcile
from vms.actions import create_vm, delete_vm, update_vm
from vms.models import VM
from vms.private import replication
from vms.private.actions import (
    RouteOrder,
    SubnetOrder,
    add_route,
    add_subnet,
    delete_network,
    update_network,
)
from vms.private.servers import attach_to_network, change_alias_ips, detach_from_network

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("rabbitmq")]


@pytest.fixture
def hosts(db: None) -> list[Host]:
    return mesh.three_hosts()


@pytest.fixture
def network(hosts: list[Host]) -> PrivateNetwork:
    return PrivateNetwork.objects.get(name="backend")


def later(seconds: float) -> datetime:
    moment = timezone.now() + timedelta(seconds=seconds)
    Host.objects.update(last_heartbeat=moment)
    return moment


def due(seconds: float) -> int:
    moment = later(seconds)
    return replication.dispatch_due(moment, moment - reconcile.STALE)


def test_a_host_is_told_all_members_and_the_peers_that_have_them(
    hosts: list[Host], network: PrivateNetwork
) -> None:
    vm = mesh.server("web-1", on=hosts[0])
    with mesh.listening() as told:
        attach_to_network(vm, network)
    assert sorted(told.hosts) == ["h1", "h2", "h3"]
    document = told.of(hosts[0])
    assert (document.generation, document.vni, document.tunnel_ip) == (
        1,
        network.vni,
        hosts[0].tunnel_ip,
    )
    assert (document.ip_range, document.mtu) == ("10.0.0.0/16", None)
    assert [(one.ip_range, one.gateway) for one in document.subnets] == [
        ("10.0.0.0/24", "10.0.0.1")
    ]
    assert {one.host_uuid for one in document.peers} == {str(one.uuid) for one in hosts[1:]}
    assert {one.addresses for one in document.members} == {
        ("10.0.0.2",),
        ("10.0.0.3",),
        ("10.0.0.4",),
    }
    (peer,) = [one for one in told.of(hosts[1]).peers if one.host_uuid == str(hosts[0].uuid)]
    assert peer.public_key == mesh.key_of("h1")
    assert (peer.tunnel_ip, peer.endpoint) == (hosts[0].tunnel_ip, "192.0.2.2:51820")
    assert told.of(hosts[1]).generation > 1
    ((name, server),) = told.servers
    assert (name, [nic.mode for nic in server.nics]) == ("h1", ["private"])


def test_only_hosts_with_a_member_are_told(hosts: list[Host], network: PrivateNetwork) -> None:
    other = mesh.network("storage", "10.1.0.0/16")
    vm = mesh.server("web-9", on=hosts[1])
    with mesh.listening() as told:
        attach_to_network(vm, other)
    assert told.hosts == ["h2"]
    assert told.of(hosts[1]).peers == ()
    with mesh.listening() as told:
        add_route(network, RouteOrder("192.168.0.0/16", "10.0.0.2"))
    assert sorted(told.hosts) == ["h2", "h3"]
    assert sorted(name for name, _ in told.servers) == ["h2", "h3"]


def test_who_is_told_nothing_new_is_told_nothing(
    hosts: list[Host], network: PrivateNetwork
) -> None:
    vm = VM.objects.get(name="web-2")
    with mesh.listening() as told:
        update_network(network, name="back", labels={"env": "prod"})
        update_vm(vm, name="www-2")
        change_alias_ips(vm, network, [])
    assert told.hosts == []


def test_subnets_routes_and_egress_reach_the_hosts(
    hosts: list[Host], network: PrivateNetwork
) -> None:
    add_subnet(network, SubnetOrder("cloud", "local"))
    add_route(network, RouteOrder("0.0.0.0/0", "10.0.0.2"))
    with mesh.listening() as told:
        update_network(network, egress=True)
    document = told.of(hosts[1])
    assert document.egress
    assert [one.ip_range for one in document.subnets] == ["10.0.0.0/24", "10.0.1.0/24"]
    assert [(one.destination, one.gateway) for one in document.routes] == [
        ("0.0.0.0/0", "10.0.0.2")
    ]


def test_a_fabric_of_known_width_is_told_to_hosts_and_guests(
    hosts: list[Host], network: PrivateNetwork, settings: Any
) -> None:
    settings.FABRIC_MTU = 9000
    vm = mesh.server("web-9", on=hosts[1])
    with mesh.listening() as told:
        attach_to_network(vm, network)
    assert told.of(hosts[2]).mtu == 8890
    assert told.servers[0][1].nics[0].mtu == 8890


def test_a_host_whose_last_member_left_is_told_to_remove_the_network(
    hosts: list[Host], network: PrivateNetwork
) -> None:
    with mesh.listening() as told:
        detach_from_network(VM.objects.get(name="web-2"), network)
    removal, rest = (dict(told.networks)[name] for name in ("h2", "h3"))
    assert isinstance(removal, NetworkRemoval)
    assert isinstance(rest, NetworkSpec)
    assert (len(rest.members), rest.peers) == (1, ())
    mesh.hosts_obey()
    assert due(3600) == 1  # the stale observation of h3


def test_a_host_that_comes_back_into_a_network_gets_a_higher_generation(
    hosts: list[Host], network: PrivateNetwork
) -> None:
    vm = VM.objects.get(name="web-2")
    before = Replica.objects.get(host=hosts[1]).generation
    detach_from_network(vm, network)
    mesh.hosts_obey()
    with mesh.listening() as told:
        attach_to_network(vm, network)
    assert told.of(hosts[1]).generation == before + 2


def test_a_server_counts_as_a_member_until_it_is_gone(
    hosts: list[Host], network: PrivateNetwork
) -> None:
    vm = VM.objects.get(name="web-2")
    with mesh.listening() as told:
        delete_vm(vm)
    assert told.hosts == []
    with mesh.listening() as told:
        mesh.converge(vm)
    assert sorted(told.hosts) == ["h2", "h3"]


def test_what_a_host_has_not_confirmed_is_sent_again_with_a_growing_pause(
    hosts: list[Host], network: PrivateNetwork
) -> None:
    add_subnet(network, SubnetOrder("cloud", "local"))
    assert due(0) == 0
    assert due(6) == 2
    assert due(6) == 0
    mesh.host_says(Replica.objects.get(host=hosts[1]))
    with mesh.listening() as told:
        assert due(12) == 1
    assert told.hosts == ["h3"]
    assert told.of(hosts[2]).generation == Replica.objects.get(host=hosts[2]).generation
    mesh.hosts_obey()
    assert due(100) == 0


def test_the_sweep_mends_what_was_missed(hosts: list[Host], network: PrivateNetwork) -> None:
    Host.objects.filter(name="h2").update(tunnel_endpoint="192.0.2.99:51820")
    with mesh.listening() as told:
        due(3600)
    (peer,) = told.of(hosts[2]).peers
    assert peer.endpoint == "192.0.2.99:51820"
    assert told.of(hosts[2]).generation == 2


def test_a_silent_host_is_not_asked_again(hosts: list[Host], network: PrivateNetwork) -> None:
    add_subnet(network, SubnetOrder("cloud", "local"))
    moment = later(60)
    Host.objects.filter(name="h2").update(last_heartbeat=timezone.now() - timedelta(minutes=5))
    with mesh.listening() as told:
        replication.dispatch_due(moment, moment - reconcile.STALE)
    assert told.hosts == ["h3"]


def test_reports_that_are_late_foreign_or_of_the_future_change_nothing(
    hosts: list[Host], network: PrivateNetwork
) -> None:
    add_subnet(network, SubnetOrder("cloud", "local"))
    replica = Replica.objects.get(host=hosts[1])
    newest = replica.generation
    mesh.host_says(replica, sender="host-h3")
    mesh.host_says(replica, generation=newest + 1)
    mesh.host_says(replica, generation=newest - 1)
    replica.refresh_from_db()
    assert (replica.observed_generation, replica.converged) == (newest - 1, False)
    mesh.host_says(replica, converged=False)
    mesh.host_says(replica, generation=newest - 1)
    replica.refresh_from_db()
    assert (replica.observed_generation, replica.converged) == (newest, False)


def test_a_deleted_network_stays_until_every_host_let_go_of_it(
    hosts: list[Host], network: PrivateNetwork
) -> None:
    with mesh.listening() as told:
        delete_network(network)
    assert all(isinstance(document, NetworkRemoval) for _, document in told.networks)
    first, last = Replica.objects.all()
    mesh.host_says(first)
    replication.forget_deleted()
    assert PrivateNetwork.objects.exists()
    mesh.host_says(last)
    replication.forget_deleted()
    assert not PrivateNetwork.objects.exists()


@pytest.mark.parametrize("members", [2, 20, 200])
def test_what_a_change_costs_grows_with_the_hosts_that_have_a_member(members: int) -> None:
    """In a cloud of 200 hosts. docs: README, "Private networks"."""
    make.image()
    cloud = [mesh.host(number) for number in range(200)]
    network = mesh.network()
    first = mesh.server("web", network, on=cloud[0])
    mesh.member_rows(first, network, cloud[1:members])
    replication.replicate([network.pk])
    vm = mesh.server("web-new", on=cloud[0])
    with mesh.listening() as attached:
        attach_to_network(vm, network)
    assert (len(attached.networks), len(attached.servers)) == (members, 1)
    with mesh.listening() as subnet:
        add_subnet(network, SubnetOrder("cloud", "local"))
    assert (len(subnet.networks), len(subnet.servers)) == (members, 0)
    with mesh.listening() as moved:
        mesh.heartbeat(cloud[1], tunnel_endpoint="198.51.100.9:4000")
    assert (len(moved.networks), len(moved.servers)) == (members - 1, 0)
    with CaptureQueriesContext(connection) as captured:
        detach_from_network(vm, network)
    assert len(captured) < 60


@pytest.mark.django_db(transaction=True)
def test_no_change_of_networks_servers_and_hosts_waits_in_a_circle(
    parallel: Callable[..., list[Any]],
) -> None:
    make.image()
    three = [mesh.host(number) for number in (1, 2, 3)]
    network, other = mesh.network(), mesh.network("storage", "10.1.0.0/16")
    servers = [mesh.server(f"web-{n}", network, on=three[n % 3]) for n in range(6)]

    def change(number: int) -> None:
        vm = servers[number % 6]
        match number % 11:
            case 0:
                attach_to_network(vm, other)
            case 1:
                update_network(network, egress=bool(number % 2))
            case 2:
                mesh.heartbeat(three[number % 3], tunnel_endpoint=f"192.0.2.9:{number + 1000}")
            case 3:
                mesh.converge(vm)
            case 4:
                change_alias_ips(vm, network, [f"10.0.0.{100 + number}"])
            case 5:
                reconcile.sweep()
            case 6:
                detach_from_network(vm, network)
            case 7:
                add_route(network, RouteOrder(f"192.168.{number}.0/24", "10.0.0.2"))
            case 8:
                order = make.order(f"new-{number}", networks=(network,), public_net=mesh.NOWHERE)
                create_vm(make.project(), order)
            case 9:
                delete_vm(vm)
            case 10:
                delete_network(other)

    results = parallel(change, 66, at_once=11)
    failures = [one for one in results if isinstance(one, Exception)]
    assert not [one for one in failures if not isinstance(one, CumuletError)]
    assert len(failures) < len(results) / 2
    told = list(Replica.objects.values_list("generation", flat=True))
    with transaction.atomic():
        replication.replicate([network.pk, other.pk])
    assert list(Replica.objects.values_list("generation", flat=True)) == told
