"""Pools that are added, changed and removed: nobody's address is lent, and none twice."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from ipaddress import ip_network
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from pytest_django.fixtures import Settings

from cloud.errors import InUse, InvalidInput, NotUnique
from cloud.models import Host
from networks.allocation import NoFreeAddress
from networks.checks import check_mesh
from networks.models import IpType, Network, PrimaryIp
from networks.pools import Pool, describe_pool, ensure_pool, remove_pool, usable
from networks.public_ips import IpOrder, create_ip
from tests import factories as make
from vms import dispatch
from vms import pools as vm_pools
from vms.actions import delete_vm
from vms.reports import vm_report

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_fabric(settings: Settings) -> None:
    """The lab's own is in the way of what is tried here."""
    settings.FABRIC = []


def pool(cidr: str, name: str = "", **values: Any) -> Network:
    return ensure_pool(Pool(name or f"pool {cidr}", cidr, make.location(), **values))


def bridged(cidr: str, gateway: str, **values: Any) -> Network:
    return pool(cidr, mode="bridged", gateway=gateway, **values)


def test_a_pool_excludes_addresses_of_its_own_kind_only() -> None:
    pool = ensure_pool(Pool("v4", "203.0.113.0/28", make.location(), excluded=("203.0.113.1",)))
    with pytest.raises(InvalidInput):
        ensure_pool(Pool("v4", "203.0.113.0/28", make.location(), excluded=("2001:db8::1",)))
    with pytest.raises(InvalidInput):
        describe_pool(pool, name="v4", excluded=("2001:db8::1",), dns=())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("203.0.113.0/24", "203.0.113.128/25"),
        ("203.0.113.128/25", "203.0.113.0/24"),
        ("2001:db8::/32", "2001:db8:ffff::/48"),
        ("2001:db8:0:7::/64", "2001:db8::/56"),
    ],
)
def test_no_pool_overlaps_another_of_either_family(first: str, second: str) -> None:
    pool(first)
    with pytest.raises(NotUnique, match="overlaps a pool"):
        pool(second)


@pytest.mark.parametrize(
    "cidr",
    [
        *("2001:db8::/31", "2001:db8::/65", "203.0.113.1/24", "pool"),
        # Loopback, multicast, link-local, and the gateway of every routed guest.
        *("127.0.0.0/16", "224.0.0.0/8", "0.0.0.0/0", "172.31.0.0/16", "fe80::/64", "ff02::/48"),
    ],
)
def test_a_range_that_is_none_is_refused(cidr: str) -> None:
    with pytest.raises(InvalidInput):
        pool(cidr)


def test_a_pool_says_how_many_it_can_lend() -> None:
    assert usable(pool("203.0.113.0/24", excluded=("203.0.113.0/28", "203.0.113.3"))) == 239
    assert usable(pool("2001:db8::/48", excluded=("2001:db8:0:8000::/49",))) == 2**15


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"gateway": "203.0.113.1"}, "gateway"),
        ({"dhcp": True}, "dhcp"),
        ({"mode": "bridged"}, "gateway"),
        ({"mode": "bridged", "gateway": "198.51.100.1"}, "gateway"),
        ({"mode": "bridged", "gateway": "2001:db8::1"}, "gateway"),
        ({"mode": "bridged", "gateway": "here"}, "gateway"),
        ({"mode": "sideways"}, "mode"),
    ],
)
def test_a_gateway_belongs_to_a_bridged_pool_and_into_its_range(
    values: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        pool("203.0.113.0/24", **values)
    assert refused.value.details == {
        "fields": [{"name": field, "messages": refused.value.details["fields"][0]["messages"]}]
    }


def test_outside_dhcp_gives_ipv4_only() -> None:
    with pytest.raises(InvalidInput, match="IPv4"):
        pool("2001:db8::/64", mode="bridged", dhcp=True)


def test_a_routed_pool_keeps_off_the_fabric(settings: Settings) -> None:
    settings.FABRIC = [ip_network("192.0.2.0/24"), ip_network("2001:db8:f::/48")]
    for cidr in ("192.0.2.0/24", "192.0.2.128/25", "192.0.0.0/16", "2001:db8:f:1::/64"):
        with pytest.raises(InvalidInput, match="fabric"):
            pool(cidr)
    assert pool("2001:db8:e::/48")


def test_a_bridged_pool_is_the_whole_network_of_its_uplinks(settings: Settings) -> None:
    settings.FABRIC = [ip_network("192.0.2.0/24")]
    make.host(uplink_ip="192.0.2.11")
    for cidr in ("192.0.2.0/25", "192.0.0.0/16"):
        with pytest.raises(InvalidInput, match="fabric"):
            bridged(cidr, "192.0.2.1")
    assert bridged("192.0.2.0/24", "192.0.2.1")


def test_no_pool_holds_the_address_of_a_host_that_it_does_not_connect() -> None:
    make.host(uplink_ip="203.0.113.7", location=make.location("moon"))
    with pytest.raises(InvalidInput, match=r"203\.0\.113\.7, the address of host h1"):
        pool("203.0.113.0/24")
    with pytest.raises(InvalidInput, match="host h1"):
        bridged("203.0.113.0/24", "203.0.113.1")


def test_a_pool_in_use_stays_and_so_does_one_with_a_history() -> None:
    make.host()
    network = make.pool()
    vm = make.ordered().vm
    with pytest.raises(InUse, match="1 of its addresses"):
        remove_pool(network)
    delete_vm(vm)
    vm_report(make.report(vm), "host-h1")
    with pytest.raises(InUse, match="history"):
        remove_pool(network)
    unused = make.pool("198.51.100.0/24")
    remove_pool(unused)
    assert Network.objects.get() == network


def test_how_a_pool_is_connected_stays_while_its_addresses_are_lent() -> None:
    make.host()
    pool("203.0.113.0/24", "public")
    make.ordered()
    assert pool("203.0.113.0/24", "public", dns=("192.0.2.53",)).dns == ["192.0.2.53"]
    with pytest.raises(InvalidInput, match="its mode stays"):
        ensure_pool(
            Pool("public", "203.0.113.0/24", make.location(), mode="bridged", gateway="203.0.113.1")
        )


def test_pools_are_added_and_removed_from_a_shell() -> None:
    make.location()
    make.project("rich")
    out = StringIO()
    call_command(
        "pool_add", "six", "2001:db8::/56", "--location", "lab", "--owner", "rich",
        "--mode", "bridged", "--gateway", "fe80::1", "--exclude", "2001:db8::/64", stdout=out,
    )  # fmt: skip
    assert "255 networks of /64" in out.getvalue()
    network = Network.objects.get()
    assert (network.mode, str(network.gateway), str(network.owner)) == (
        "bridged",
        "fe80::1",
        "rich",
    )
    with pytest.raises(CommandError, match="no project"):
        call_command("pool_add", "x", "203.0.113.0/24", "--location", "lab", "--owner", "nobody")
    with pytest.raises(CommandError, match="overlaps"):
        call_command("pool_add", "x", "2001:db8::/48", "--location", "lab")
    call_command("pool_remove", "six", stdout=out)
    with pytest.raises(CommandError, match="no pool 'six'"):
        call_command("pool_remove", "six")
    assert not Network.objects.exists()


def test_a_pool_that_leads_to_no_host_in_user_mode_is_added_with_what_is_missing() -> None:
    host = make.user_host()
    add = ["pool_add", "led", "198.51.100.0/28", "--location", "lab"]

    def said() -> str:
        out = StringIO()
        call_command(*add, stdout=out)
        return out.getvalue()

    assert "deploy/host prepare-tap USER --pool 198.51.100.0/28" in said()
    assert Network.objects.get().name == "led"
    Host.objects.filter(pk=host.pk).update(public_ranges=["198.51.100.0/24"])
    assert "prepare-tap" not in said()
    Host.objects.filter(pk=host.pk).update(public_ranges=[])
    make.host()
    assert "prepare-tap" not in said()


def test_where_all_hosts_are_in_user_mode_more_addresses_need_a_tap() -> None:
    make.user_host()
    order = IpOrder(IpType.IPV4, make.location())
    with pytest.raises(NoFreeAddress, match=r"prepare-tap.*or use forwarded ports"):
        create_ip(PrimaryIp, make.project(), order)
    make.host()
    with pytest.raises(NoFreeAddress, match="needed, or add a pool"):
        create_ip(PrimaryIp, make.project(), order)


def test_a_pool_keeps_off_the_mesh_of_private_networks(settings: Settings) -> None:
    settings.TUNNEL_RANGE = "100.64.0.0/16"
    with pytest.raises(InvalidInput, match="the mesh of private networks"):
        pool("100.64.7.0/24")
    assert pool("100.65.0.0/24")


@pytest.mark.parametrize(
    ("tunnels", "mtu", "problem"),
    [
        ("100.64.0.0/16", None, None),
        ("100.64.0.0/16", 9000, None),
        ("fd00:64::/64", None, "networks.E001"),
        ("192.0.2.0/26", 1500, "networks.E002"),
        ("192.0.2.1/24", 1500, "networks.E001"),
        ("100.64.0.0/16", 1380, "networks.E003"),
    ],
)
def test_a_mesh_that_cannot_be_stops_control_from_starting(
    settings: Settings, tunnels: str, mtu: int | None, problem: str | None
) -> None:
    settings.FABRIC = [ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")]
    settings.TUNNEL_RANGE, settings.FABRIC_MTU = tunnels, mtu
    assert [error.id for error in check_mesh()] == ([problem] if problem else [])


@pytest.mark.parametrize("change", ["resolvers", "gateway"])
def test_servers_are_told_of_new_resolvers_and_of_a_new_gateway(
    change: str, django_capture_on_commit_callbacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(dispatch, "send", lambda vm: told.append(dispatch.spec_of(vm)))
    make.host(network_mode="bridged")
    bridged = Pool("wire", "203.0.113.0/28", make.location(), mode="bridged", gateway="203.0.113.1")
    pool = vm_pools.ensure_pool(bridged)
    vm = make.ordered().vm
    with django_capture_on_commit_callbacks(execute=True):
        vm_pools.describe_pool(pool, name="renamed", excluded=(), dns=())
    assert told == []
    with django_capture_on_commit_callbacks(execute=True):
        if change == "resolvers":
            vm_pools.describe_pool(pool, name="renamed", excluded=(), dns=("192.0.2.53",))
        else:
            vm_pools.ensure_pool(replace(bridged, name="renamed", gateway="203.0.113.14"))
    (spec,) = told
    assert spec.generation == vm.generation + 1
    if change == "resolvers":
        assert spec.nics[0].dns == ("192.0.2.53",)
    else:
        assert spec.nics[0].gateway == "203.0.113.14"


def test_a_pools_name_is_given_once() -> None:
    pool("203.0.113.0/28", "front")
    with pytest.raises(NotUnique, match="already used"):
        describe_pool(pool("198.51.100.0/28"), name="front", excluded=(), dns=())
    with pytest.raises(NotUnique, match="taken by another range"):
        pool("192.0.2.0/28", "front")
