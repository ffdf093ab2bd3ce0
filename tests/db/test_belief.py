"""A host that lies about what it holds takes little from others, and nothing that they have.

Hosts are played, as in `tests.db.test_restored`.
"""

from __future__ import annotations

import pytest
from msgspec import structs

from cloud.models import Host
from networks.models import Address, IpType, Network, PrimaryIp, Withdrawal
from networks.public_ips import IpOrder, create_ip
from tests import factories as make
from tests.db import mesh
from tests.db.restoring import running, says, stranger
from vms import reports
from vms.actions import delete_vm
from vms.drift.spec import HeldPrivate
from vms.models import Holding
from vms.private import hosts
from vms.private.membership import Seat
from vms.private.servers import attach_to_network

pytestmark = [pytest.mark.django_db, pytest.mark.faults]


@pytest.fixture
def host() -> Host:
    host = make.host()
    make.pool("203.0.113.0/28")
    return host


def taken(*texts: str) -> set[str]:
    rows = Address.objects.held().filter(ip__in=texts, state=Address.State.QUARANTINE)
    return {str(address) for address in rows}


def test_a_host_takes_no_address_of_another_location(host: Host) -> None:
    make.pool("198.51.100.0/28", name="far", location=make.location("far"))
    says(host, stranger(50, "203.0.113.1", "198.51.100.1", "no address"), asked=False)
    assert taken("203.0.113.1", "198.51.100.1") == {"203.0.113.1"}
    assert Holding.objects.get().addresses == ["203.0.113.1"]


def test_without_a_restore_a_host_takes_nothing_that_another_server_has(host: Host) -> None:
    vm = running("web-1")
    spare = create_ip(PrimaryIp, make.project(), IpOrder(IpType.IPV4, make.location()))
    other = make.host("h2")
    mine = str(vm.nics.get().ipv4.address)
    says(other, stranger(vm.pk, mine, str(spare.address)), asked=False)
    assert Holding.objects.get().addresses == [str(spare.address)]
    assert not Withdrawal.objects.filter(address__ip=mine).exists()


def test_a_host_takes_no_more_than_so_many_addresses(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vms.restored.belief.MOST_UNKNOWN", 3)
    says(host, stranger(50, "203.0.113.1", "203.0.113.2"), asked=False)
    first = Holding.objects.get()
    many = [stranger(60 + n, f"203.0.113.{3 + n}") for n in range(8)]
    known = structs.replace(stranger(50, *first.addresses), uuid=str(first.uuid))
    says(host, *many, known, asked=False)
    assert Address.objects.filter(state=Address.State.QUARANTINE).count() == 3
    assert len(taken(*first.addresses)) == 2, "what was noted first stays"
    assert Holding.objects.count() == 3


def test_what_a_restore_noted_beyond_that_stays_noted(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [stranger(50 + n, f"203.0.113.{1 + n}") for n in range(3)]
    says(host, *known, asked=False)
    monkeypatch.setattr("vms.restored.belief.MOST_UNKNOWN", 1)
    says(host, *known, asked=False)
    assert Holding.objects.count() == 3
    assert len(taken("203.0.113.1", "203.0.113.2", "203.0.113.3")) == 3


def test_no_host_frees_what_another_one_reserved_by_naming_the_same_server(host: Host) -> None:
    other = make.host("h2")
    says(host, stranger(50, "203.0.113.1"), asked=False)
    says(other, stranger(50, "203.0.113.1"), asked=False)
    says(other, asked=False)
    assert taken("203.0.113.1")


def test_a_number_that_a_host_made_up_frees_nothing_when_the_server_of_it_ends(host: Host) -> None:
    vm = running("web-1")
    says(make.host("h2"), stranger(vm.pk, "203.0.113.9"), asked=False)
    delete_vm(vm)
    vm.refresh_from_db()
    reports.vm_report(make.report(vm, present=False, power="off"), "host-h1")
    assert taken("203.0.113.9")


def test_what_is_of_a_pool_only_later_is_kept_for_the_unknown_server_too(
    host: Host,
) -> None:
    pools = Network.objects.all()
    pools.update(ip_range="198.51.100.0/28")
    unknown = stranger(50, "203.0.113.1")
    says(host, unknown, asked=False)
    assert not taken("203.0.113.1")
    pools.update(ip_range="203.0.113.0/28")
    says(host, unknown, asked=False)
    assert taken("203.0.113.1")


def test_a_host_that_is_cut_off_takes_nothing_any_more(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "forget_broker_user", lambda _: None)
    says(host, stranger(50, "203.0.113.1"), asked=False)
    hosts.cut_off(host)
    assert not Holding.objects.exists()
    assert not taken("203.0.113.1")


def test_a_host_takes_nothing_in_private_networks_that_it_was_never_told_of() -> None:
    here, there = mesh.host(1), mesh.host(2)
    make.image()
    network = mesh.network()
    attached = mesh.server("web-1", network, on=here)
    assert attached.nics.filter(network=network).exists()
    says(there, stranger(50, private=(HeldPrivate(network.pk, ("10.0.0.9",)),)), asked=False)
    attach_to_network(mesh.server("new", on=here), network, Seat(ip="10.0.0.9"))


def test_what_is_no_address_stops_nobody_from_joining_a_private_network() -> None:
    here = mesh.host(1)
    make.image()
    network = mesh.network()
    mesh.server("web-1", network, on=here)
    says(here, stranger(50, private=(HeldPrivate(network.pk, ("no address",)),)), asked=False)
    attach_to_network(mesh.server("new", on=here), network)
