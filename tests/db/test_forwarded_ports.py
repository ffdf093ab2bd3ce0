"""Ports of hosts in user mode: lent once, under parallel requests too, and again when proved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloud.errors import InvalidInput, LimitExceeded, ResourceUnavailable
from cloud.models import Action, AuditEntry, Host
from cloud.wire import decode, encode
from networks.models import Address, IpType, PrimaryIp
from networks.public_ips import IpOrder, create_ip
from networks.spec import USER_ADDRESS, USER_GATEWAY, USER_RESOLVER, ForwardSpec
from tests import factories as make
from vms.actions import create_vm, delete_vm
from vms.attachments import PublicNet
from vms.dispatch import spec_of
from vms.forwarding import NotBehindHost, change_forwarded_ports
from vms.models import VM, ForwardedPort
from vms.ports import Forward
from vms.reports import vm_report
from vms.spec import VmSpec

Parallel = Callable[..., list[Any]]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.rootless]

SSH, HTTP, DNS = Forward("tcp", 22), Forward("tcp", 80), Forward("udp", 53)


def says(vm: VM, **facts: Any) -> None:
    vm.refresh_from_db()
    vm_report(make.report(vm, **facts), f"host-{vm.host.name}")


def running(name: str = "web-1", **values: Any) -> VM:
    vm = make.ordered(name, **values).vm
    says(vm)
    return VM.objects.get(pk=vm.pk)


def document(vm: VM) -> VmSpec:
    """What its host is told, over the wire."""
    return decode(encode(spec_of(VM.objects.for_spec().get(pk=vm.pk))), VmSpec)


def ports(vm: VM) -> dict[Forward, int]:
    rows = ForwardedPort.objects.filter(nic__vm=vm, withdrawn=None)
    return {Forward(one.protocol, one.guest_port): one.port for one in rows}


def test_without_a_pool_a_server_is_behind_its_host_and_reached_by_a_port() -> None:
    make.user_host()
    vm = running()
    assert ports(vm) == {SSH: 30000}
    (nic,) = document(vm).nics
    assert (nic.index, nic.mode, nic.ipv4, nic.prefix4) == (0, "user", USER_ADDRESS, 24)
    assert (nic.gateway, nic.dns, nic.mtu) == (USER_GATEWAY, (USER_RESOLVER,), 1500)
    assert nic.forwards == (ForwardSpec("tcp", 30000, 22),)
    assert not Address.objects.exists()
    entry = AuditEntry.objects.get(verb="nic.attach")
    assert entry.after["forwarded_ports"] == ["30000 to 22/tcp"]


def test_addresses_that_were_asked_for_are_never_replaced_by_ports() -> None:
    host = make.user_host()
    with pytest.raises(ResourceUnavailable, match="no TAP that root prepared"):
        make.ordered(public_net=PublicNet(required=True))
    with pytest.raises(ResourceUnavailable, match="no TAP that root prepared"):
        make.ordered(public_net=PublicNet(ipv6=False, required=True))
    with pytest.raises(InvalidInput, match="needs an address or a network"):
        make.ordered(public_net=PublicNet(ipv4=False))
    make.pool()
    ip = create_ip(PrimaryIp, make.project(), IpOrder(IpType.IPV4, host.location))
    with pytest.raises(ResourceUnavailable, match="no TAP that root prepared"):
        make.ordered(public_net=PublicNet(primary4=ip))
    assert not VM.objects.exists()
    assert not ForwardedPort.objects.exists()


def test_where_there_are_pools_ports_are_given_to_who_names_them() -> None:
    make.user_host(memory_mb=2**20)
    make.host()
    make.pool()
    assert running("web-1").host.name == "h1"
    named = running("web-2", public_net=PublicNet(forwarded=(HTTP, DNS, SSH)))
    assert named.host.name == "u1"
    assert ports(named) == {SSH: 30000, HTTP: 30001, DNS: 30000}
    hidden = running("web-3", public_net=PublicNet(forwarded=()))
    assert [nic.mode for nic in document(hidden).nics] == ["user"]


def test_a_host_with_privileges_is_never_asked_for_ports() -> None:
    make.host()
    with pytest.raises(ResourceUnavailable, match="add a pool with `manage"):
        make.ordered()
    with pytest.raises(ResourceUnavailable, match="use a location with hosts in user mode"):
        make.ordered(public_net=PublicNet(forwarded=(SSH,)))


def test_of_many_parallel_creates_each_gets_a_port_of_its_own(parallel: Parallel) -> None:
    make.user_host(cores=100, memory_mb=2**20, disk_gb=1000, last_forward_port=30024)
    order = make.order()
    project = make.project()

    def create(number: int) -> Any:
        return create_vm(project, make.order(f"web-{number}", image=order.image))

    results = parallel(create, 32, at_once=16)
    refused = [result for result in results if isinstance(result, Exception)]
    assert [type(error) for error in refused] == [ResourceUnavailable] * 7
    assert all("has 0 tcp ports free of 1 needed" in str(error) for error in refused)
    lent = sorted(ForwardedPort.objects.values_list("port", flat=True))
    assert lent == list(range(30000, 30025))
    assert VM.objects.count() == 25
    assert Action.objects.count() == 50


def test_parallel_changes_of_servers_of_one_host_never_lend_a_port_twice(
    parallel: Parallel,
) -> None:
    make.user_host(cores=100)
    vms = [running(f"web-{number}") for number in range(8)]
    wanted = [SSH, HTTP, DNS, Forward("udp", 22)]
    assert not [
        result
        for result in parallel(lambda number: change_forwarded_ports(vms[number], wanted), 8)
        if isinstance(result, Exception)
    ]
    for protocol in ("tcp", "udp"):
        lent = ForwardedPort.objects.filter(protocol=protocol).values_list("port", flat=True)
        assert sorted(lent) == list(range(30000, 30016))


def test_a_host_whose_ports_are_lent_passes_the_server_on_to_the_next() -> None:
    make.user_host("u1", last_forward_port=30000, memory_mb=2**20)
    make.user_host("u2")
    assert [running(name).host.name for name in ("web-1", "web-2")] == ["u1", "u2"]


def test_a_port_is_lent_again_once_its_host_proved_that_the_server_is_gone() -> None:
    make.user_host(last_forward_port=30000)
    vm = running()
    delete_vm(vm)
    with pytest.raises(ResourceUnavailable, match="has 0 tcp ports free"):
        make.ordered("web-2")
    says(vm)
    assert ports(make.ordered("web-2").vm) == {SSH: 30000}


def test_a_port_that_was_taken_from_a_server_is_lent_again_once_its_host_let_go() -> None:
    make.user_host(last_forward_port=30000)
    vm = running()
    told = vm.generation
    action = change_forwarded_ports(vm, [])
    assert document(vm).nics[0].forwards == ()
    vm.refresh_from_db()
    assert vm.generation == told + 1
    says(vm, generation=told)
    says(vm, converged=False)
    with pytest.raises(ResourceUnavailable, match="has 0 tcp ports free"):
        make.ordered("web-2")
    says(vm)
    action.refresh_from_db()
    assert action.status == "success"
    assert ports(make.ordered("web-2").vm) == {SSH: 30000}


def test_a_port_that_stays_or_comes_back_before_its_host_let_go_keeps_its_number() -> None:
    make.user_host()
    vm = running(public_net=PublicNet(forwarded=(HTTP, SSH)))
    before = ports(vm)
    change_forwarded_ports(vm, [SSH, DNS])
    assert ports(vm) == {SSH: before[SSH], DNS: 30000}
    change_forwarded_ports(vm, [HTTP, SSH])
    assert ports(vm) == before
    says(vm)
    assert ports(vm) == before
    assert ForwardedPort.objects.count() == 2  # that of DNS is free


def test_the_same_list_again_changes_nothing() -> None:
    make.user_host()
    vm = running()
    action = change_forwarded_ports(vm, [SSH])
    assert action.status == "success"
    assert VM.objects.get().generation == vm.generation


def test_ports_are_at_most_64_each_named_once_and_real() -> None:
    make.user_host()
    vm = running()
    many = [Forward("tcp", port) for port in range(1, 66)]
    with pytest.raises(LimitExceeded):
        change_forwarded_ports(vm, many)
    change_forwarded_ports(vm, many[:64])
    assert len(document(vm).nics[0].forwards) == 64
    for wrong in ([SSH, SSH], [Forward("icmp", 1)], [Forward("tcp", 0)], [Forward("tcp", 65536)]):
        with pytest.raises(InvalidInput):
            change_forwarded_ports(vm, wrong)
    with pytest.raises(LimitExceeded):
        make.ordered("web-2", public_net=PublicNet(forwarded=tuple(many)))


def test_a_server_with_addresses_of_its_own_has_no_forwarded_ports() -> None:
    make.host()
    make.pool()
    vm = running()
    with pytest.raises(NotBehindHost, match="reach it by its own address"):
        change_forwarded_ports(vm, [SSH])


def test_ports_lent_from_an_earlier_range_do_not_count_against_the_present_one() -> None:
    make.user_host(last_forward_port=30000)
    first = running("web-1")
    Host.objects.update(first_forward_port=40000, last_forward_port=40000)
    assert ports(running("web-2")) == {SSH: 40000}
    assert ports(first) == {SSH: 30000}
    with pytest.raises(ResourceUnavailable, match="has 0 tcp ports free"):
        make.ordered("web-3")
