"""Claims are exact under parallel requests, and a refused one leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from cloud.errors import Conflict, LimitExceeded, NotFound, NotUnique, ResourceUnavailable
from cloud.models import Action
from networks.models import Address, FloatingIp, IpType, PrimaryIp, Tenure
from networks.public_ips import IpOrder, create_ip, delete_ip
from tests import factories as make
from vms import reports
from vms.actions import create_vm, delete_vm
from vms.attachments import PrimaryIpAssigned, PublicNet
from vms.floating_ips import FloatingIpAssigned, assign_floating_ip, create_floating_ip
from vms.models import VM, FloatingAssignment, Nic

Parallel = Callable[..., list[Any]]
pytestmark = pytest.mark.django_db(transaction=True)


def outcomes(results: list[Any]) -> tuple[int, list[Exception]]:
    errors = [result for result in results if isinstance(result, Exception)]
    return len(results) - len(errors), errors


def test_the_last_room_goes_to_exactly_one_of_two_parallel_creates(parallel: Parallel) -> None:
    make.host(memory_mb=300)
    make.pool()
    order = make.order()
    project = make.project()

    def create(number: int) -> Any:
        return create_vm(project, make.order(f"web-{number}", image=order.image))

    created, errors = outcomes(parallel(create, 2))
    assert created == 1
    assert isinstance(errors[0], ResourceUnavailable)
    assert "h1: has 44 MiB of memory free of 256 needed" in errors[0].message
    assert VM.objects.count() == 1


def test_the_last_addresses_go_to_as_many_creates_and_to_none_twice(parallel: Parallel) -> None:
    make.host()
    make.pool("203.0.113.0/29")
    order = make.order()
    project = make.project()

    def create(number: int) -> Any:
        return create_vm(project, make.order(f"web-{number}", image=order.image))

    created, errors = outcomes(parallel(create, 9))
    assert created == 6
    assert all(isinstance(error, ResourceUnavailable) for error in errors)
    ips = list(Address.objects.values_list("ip", flat=True))
    assert len(ips) == len(set(ips)) == 6
    assert VM.objects.count() == Nic.objects.count() == 6
    assert Action.objects.count() == 12


@pytest.mark.public
def test_of_two_hundred_creates_on_199_addresses_one_is_refused_and_none_is_lost(
    parallel: Parallel, settings: Settings
) -> None:
    settings.HOST_SILENT_SECONDS = 600  # it says nothing meanwhile
    make.host(cores=1000, memory_mb=1_000_000, disk_gb=10_000)
    make.pool("203.0.113.0/24", excluded=["203.0.113.200/29", "203.0.113.208/28", *(
        f"203.0.113.{last}" for last in range(224, 255)
    )])  # fmt: skip
    order = make.order()
    project = make.project()

    def create(number: int) -> Any:
        return create_vm(project, make.order(f"web-{number}", image=order.image)).vm

    results = parallel(create, 200, at_once=40)
    vms = [result for result in results if isinstance(result, VM)]
    created, errors = outcomes(results)
    assert (created, [type(error) for error in errors]) == (199, [ResourceUnavailable])
    assert "no free public IPv4 address" in str(errors[0])
    ips = list(Address.objects.values_list("ip", flat=True))
    assert len(ips) == len(set(ips)) == PrimaryIp.objects.count() == VM.objects.count() == 199

    def delete(number: int) -> None:
        delete_vm(vms[number])
        reports.vm_report(make.report(vms[number]), "host-h1")

    assert outcomes(parallel(delete, 199, at_once=40)) == (199, [])
    assert not VM.objects.exists()
    assert not PrimaryIp.objects.exists()
    assert not Address.objects.held().exists()
    assert Tenure.objects.filter(until=None).count() == 0
    assert str(create(0).nics.get().ipv4.address) == "203.0.113.1"


def test_one_primary_ip_goes_to_one_of_two_parallel_creates(parallel: Parallel) -> None:
    make.host()
    make.pool()
    order = make.order()
    project = make.project()
    ip = create_ip(PrimaryIp, project, IpOrder(IpType.IPV4, make.location()))

    def create(number: int) -> Any:
        net = PublicNet(primary4=ip)
        return create_vm(project, make.order(f"web-{number}", image=order.image, public_net=net))

    created, errors = outcomes(parallel(create, 3))
    assert created == 1
    assert [type(error) for error in errors] == [PrimaryIpAssigned] * 2


def test_a_floating_ip_that_many_want_at_once_ends_at_one_server(parallel: Parallel) -> None:
    make.host()
    make.pool()
    vms = [make.ordered(f"web-{number}").vm for number in range(3)]
    ip = create_floating_ip(make.project(), IpOrder(IpType.IPV4, make.location()), vms[0])[0]

    def move(number: int) -> None:
        vm = vms[number % 3]
        if number >= 9:
            reports.vm_report(make.report(vm), "host-h1")
        else:
            assign_floating_ip(ip, vm)

    errors = outcomes(parallel(move, 12))[1]
    assert {type(error) for error in errors} <= {Conflict, FloatingIpAssigned}
    (assignment,) = FloatingAssignment.objects.all()
    tenure = Tenure.objects.get(address=ip.address_id, until=None)
    assert tenure.server_id == assignment.nic.vm_id


def test_a_project_gets_no_more_than_its_share_however_it_asks(
    parallel: Parallel, settings: Settings
) -> None:
    settings.PROJECT_FLOATING_IPS = 3
    make.pool()
    project = make.project()

    def create(number: int) -> Any:
        return create_ip(FloatingIp, project, IpOrder(IpType.IPV4, make.location()))

    created, errors = outcomes(parallel(create, 6))
    assert created == 3
    assert all(isinstance(error, LimitExceeded) for error in errors)
    assert errors[0].details == {"limits": [{"name": "floating_ip_limit"}]}  # type: ignore[attr-defined]


def test_every_server_gets_a_network_of_its_own_unless_it_wants_none() -> None:
    make.host()
    make.pool()
    make.pool("2001:db8::/62", excluded=["2001:db8::1"])
    nics = [make.ordered(f"web-{number}").vm.nics.get() for number in range(2)]
    assert [str(nic.ipv6.address) for nic in nics] == ["2001:db8:0:1::/64", "2001:db8:0:2::/64"]
    net = PublicNet(ipv6=False)
    assert make.ordered("only-4", public_net=net).vm.nics.get().ipv6 is None
    only = make.ordered("only-6", public_net=PublicNet(ipv4=False)).vm.nics.get()
    assert (only.ipv4, str(only.ipv6.address)) == (None, "2001:db8:0:3::/64")
    with pytest.raises(ResourceUnavailable, match="IPv6"):
        make.ordered("too-late")


def test_a_pool_of_a_project_lends_to_nobody_else_and_comes_first() -> None:
    make.host()
    make.pool()
    make.pool("198.51.100.0/30", owner=make.project("rich"))
    mine = create_vm(make.project("rich"), make.order("mine")).vm
    assert str(mine.nics.get().ipv4.address) == "198.51.100.1"
    assert str(make.ordered().vm.nics.get().ipv4.address) == "203.0.113.1"


def test_a_bridged_pool_needs_a_host_in_its_network() -> None:
    make.host("h1")
    make.pool("203.0.113.0/29", mode="bridged", gateway="203.0.113.1")
    with pytest.raises(ResourceUnavailable, match="h1: is routed, but the addresses for it are"):
        make.ordered()
    make.host("h2", network_mode="bridged", uplink_ip="203.0.113.2")
    vm = make.ordered().vm
    assert (vm.host.name, vm.nics.get().mode) == ("h2", "bridged")
    # Neither the gateway's nor the host's own.
    assert str(vm.nics.get().ipv4.address) == "203.0.113.3"


def test_where_the_outside_gives_addresses_a_server_has_none_of_ours() -> None:
    make.host(network_mode="bridged")
    pool = make.pool(mode="bridged", dhcp=True)
    vm = make.ordered().vm
    assert (vm.nics.get().dhcp_network, vm.nics.get().ipv4) == (pool, None)
    assert not Address.objects.exists()


def test_a_project_s_own_network_with_dhcp_comes_before_pools_of_all() -> None:
    make.host(network_mode="bridged")
    make.pool()
    own = make.pool("10.0.0.0/24", name="own", mode="bridged", dhcp=True, owner=make.project())
    assert make.ordered().vm.nics.get().dhcp_network == own


def test_one_name_is_given_once(parallel: Parallel) -> None:
    make.host()
    make.pool()
    order = make.order("web")
    project = make.project()
    created, errors = outcomes(parallel(lambda _: create_vm(project, order), 3))
    assert created == 1
    assert all(isinstance(error, NotUnique) for error in errors)
    assert Address.objects.count() == 1


def test_a_full_host_passes_the_vm_on_to_the_next(parallel: Parallel) -> None:
    make.host("h1", memory_mb=512)
    make.host("h2", memory_mb=512)
    make.pool()
    order = make.order()
    project = make.project()

    def create(number: int) -> Any:
        return create_vm(project, make.order(f"web-{number}", image=order.image)).vm.host.name

    results = parallel(create, 4)
    assert sorted(results) == ["h1", "h1", "h2", "h2"]


def test_an_excluded_address_is_never_lent() -> None:
    make.host()
    make.pool("203.0.113.0/30", excluded=["203.0.113.1"])
    assert str(make.ordered().vm.nics.get().ipv4.address) == "203.0.113.2"


def test_of_two_parallel_deletions_of_an_ip_the_later_one_does_not_find_it(
    parallel: Parallel,
) -> None:
    make.host()
    make.pool()
    ip = create_ip(PrimaryIp, make.project(), IpOrder(IpType.IPV4, make.location()))
    deleted, errors = outcomes(parallel(lambda _: delete_ip(ip), 2))
    assert (deleted, [type(error) for error in errors]) == (1, [NotFound])
