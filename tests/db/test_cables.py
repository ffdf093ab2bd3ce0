"""Hosts in user mode in private networks: who lays cables to whom, and what others know of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from django.utils import timezone

from cloud.errors import InvalidInput
from cloud.hosts import add_host, authority
from cloud.models import AuditEntry, Host
from networks.models import PrivateNetwork, Replica
from networks.spec import CableSpec, CablesSpec, NetworkRemoval
from tests import factories as make
from tests.db import mesh
from vms import reconcile
from vms.models import VM
from vms.private import replication
from vms.private.hosts import cut_off
from vms.private.servers import attach_to_network, detach_from_network

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("rabbitmq")]


def endpoint(number: int) -> str:
    return f"192.0.2.{number}:51821"


def root_host(number: int, **facts: Any) -> Host:
    return mesh.host(number, cables=True, cable_endpoint=endpoint(number), **facts)


def rootless(number: int, **facts: Any) -> Host:
    values = {"network_mode": "vde", "cables": True, "cable_endpoint": endpoint(number)}
    room = {"cores": 100, "memory_mb": 2**20, "disk_gb": 1000}
    return make.host(f"r{number}", **{**room, **values, **facts})


@pytest.fixture
def network(db: None) -> PrivateNetwork:
    """With a member on r1 and r2 each; h1 could be its gateway."""
    make.image()
    hosts = [root_host(1), rootless(1), rootless(2)]
    made = mesh.network()
    for number, host in enumerate(hosts[1:], start=1):
        mesh.server(f"web-{number}", made, on=host)
    mesh.hosts_obey()
    return made


def host(name: str) -> Host:
    return Host.objects.get(name=name)


def later(seconds: float, *, silent: str) -> datetime:
    """All hosts speak at that time but one."""
    moment = timezone.now() + timedelta(seconds=seconds)
    Host.objects.exclude(name=silent).update(last_heartbeat=moment)
    return moment


def hub_of(network: PrivateNetwork) -> str | None:
    network.refresh_from_db()
    return network.hub.name if network.hub else None


def test_the_gateway_is_told_without_a_member_and_others_lay_cables_to_it(
    network: PrivateNetwork,
) -> None:
    vm = mesh.server("web-3", on=host("r2"))
    with mesh.listening() as told:
        attach_to_network(vm, network)
    assert told.hosts == ["h1"]
    gateway = told.of(host("h1"))
    assert gateway.cables == CablesSpec(1, accepts=("r1", "r2"))
    assert gateway.tunnel_ip
    assert {one.host_uuid for one in gateway.members} == {str(host("h1").uuid)}
    assert len(gateway.members) == 3


def test_a_host_in_user_mode_is_told_of_its_cable_and_of_no_member(db: None) -> None:
    make.image()
    root_host(1)
    spoke = rootless(2)
    network = mesh.network()
    vm = mesh.server("web-1", on=spoke)
    with mesh.listening() as told:
        attach_to_network(vm, network)
    assert sorted(told.hosts) == ["h1", "r2"]
    document = told.of(spoke)
    assert document.cables == CablesSpec(1, uplink=CableSpec("h1", endpoint(1)))
    assert (document.tunnel_ip, document.members, document.peers) == (None, (), ())
    assert [one.gateway for one in document.subnets] == ["10.0.0.1"]
    # Guests of both kinds of hosts agree on what a frame may hold.
    assert document.mtu == told.of(host("h1")).mtu == told.servers[0][1].nics[0].mtu == 1390


def test_other_hosts_know_members_behind_cables_as_the_gateways(network: PrivateNetwork) -> None:
    other = mesh.host(2)
    vm = mesh.server("db-1", on=other)
    with mesh.listening() as told:
        attach_to_network(vm, network)
    assert sorted(told.hosts) == ["h1", "h2"]
    document = told.of(other)
    assert [one.host_uuid for one in document.peers] == [str(host("h1").uuid)]
    uuids = sorted(str(host(name).uuid) for name in ("h1", "h1", "h2"))
    assert sorted(one.host_uuid for one in document.members) == uuids
    assert document.cables is None


def test_frames_of_switches_are_no_larger_on_a_wide_fabric(db: None, settings: Any) -> None:
    settings.FABRIC_MTU = 9000
    make.image()
    spoke = rootless(1)
    network = mesh.network()
    vm = mesh.server("web-1", on=spoke)
    with mesh.listening() as told:
        attach_to_network(vm, network)
    assert told.of(spoke).mtu == told.servers[0][1].nics[0].mtu == 1500


def test_without_a_host_of_the_mesh_one_in_user_mode_accepts_the_cables(db: None) -> None:
    make.image()
    hosts = [rootless(1), rootless(2, cable_endpoint="")]
    network = mesh.network()
    mesh.server("web-1", network, on=hosts[0])
    vm = mesh.server("web-2", on=hosts[1])
    with mesh.listening() as told:
        attach_to_network(vm, network)
    assert told.of(hosts[0]).cables == CablesSpec(1, accepts=("r2",))
    assert told.of(hosts[1]).cables == CablesSpec(1, uplink=CableSpec("r1", endpoint(1)))


def test_a_host_that_lays_no_cables_takes_no_members(db: None) -> None:
    make.image()
    vm = mesh.server("web-1", on=rootless(1, cables=False))
    with pytest.raises(InvalidInput):
        attach_to_network(vm, mesh.network())


def test_a_network_is_wired_anew_when_its_hub_falls_silent(network: PrivateNetwork) -> None:
    other = root_host(3)
    moment = later(120, silent="h1")
    with mesh.listening() as told:
        assert replication.rewire_due(moment) == 4
    assert hub_of(network) == "h3"
    assert told.of(other).cables == CablesSpec(2, accepts=("r1", "r2"))
    assert told.of(host("r1")).cables == CablesSpec(2, uplink=CableSpec("h3", endpoint(3)))
    assert isinstance(dict(told.networks)["h1"], NetworkRemoval)
    assert replication.rewire_due(moment) == 0


def test_a_hub_that_is_back_does_not_take_the_network_back(network: PrivateNetwork) -> None:
    root_host(3)
    replication.rewire_due(later(120, silent="h1"))
    mesh.heartbeat(host("h1"), cables=True, cable_endpoint=endpoint(1))
    assert replication.rewire_due(later(120, silent="")) == 0
    assert hub_of(network) == "h3"


def test_a_host_in_user_mode_is_the_hub_until_a_gateway_speaks(network: PrivateNetwork) -> None:
    assert replication.rewire_due(later(120, silent="h1")) == 3
    assert hub_of(network) == "r1"
    assert replication.rewire_due(later(120, silent="")) == 3
    assert hub_of(network) == "h1"


def test_a_network_without_a_hub_gets_the_first_one_that_comes(network: PrivateNetwork) -> None:
    Host.objects.update(cable_endpoint="")
    replication.replicate([network.pk])
    assert hub_of(network) is None
    Host.objects.filter(name="h1").update(cable_endpoint=endpoint(1))
    assert replication.rewire_due(later(0, silent="")) == 0
    assert replication.wire_due(later(0, silent="")) > 0
    assert hub_of(network) == "h1"


def test_silence_of_all_hosts_changes_nothing(network: PrivateNetwork) -> None:
    assert replication.rewire_due(timezone.now() + timedelta(hours=1)) == 0
    assert hub_of(network) == "h1"


def test_a_revoked_host_is_nobodys_cable(network: PrivateNetwork) -> None:
    with mesh.listening() as told:
        cut_off(host("r2"))
    assert isinstance(dict(told.networks)["r2"], NetworkRemoval)
    assert told.of(host("h1")).cables == CablesSpec(1, accepts=("r1",))
    assert "r1" not in told.hosts
    with mesh.listening() as told:
        cut_off(host("h1"))
    assert hub_of(network) == "r1"
    assert told.of(host("r1")).cables == CablesSpec(2)


def test_a_hub_that_moved_is_followed(network: PrivateNetwork) -> None:
    with mesh.listening() as told:
        mesh.heartbeat(host("h1"), cables=True, cable_endpoint="192.0.2.99:51821")
    assert sorted(told.hosts) == ["r1", "r2"]
    cables = told.of(host("r1")).cables
    assert cables == CablesSpec(1, uplink=CableSpec("h1", "192.0.2.99:51821"))


def test_the_gateway_is_let_go_with_the_last_member_behind_a_cable(
    network: PrivateNetwork,
) -> None:
    for name in ("web-1", "web-2"):
        detach_from_network(VM.objects.get(name=name), network)
        mesh.hosts_obey()
    assert hub_of(network) is None
    assert not Replica.objects.filter(wanted=True).exists()
    with mesh.listening() as told:
        attach_to_network(VM.objects.get(name="web-1"), network)
    assert told.of(host("h1")).cables == CablesSpec(2, accepts=("r1",))


def test_the_sweep_rewires(network: PrivateNetwork) -> None:
    root_host(3)
    Host.objects.filter(name="h1").update(last_heartbeat=timezone.now() - timedelta(minutes=5))
    reconcile.sweep()
    assert hub_of(network) == "h3"


def test_networks_without_hosts_in_user_mode_have_no_cables(db: None) -> None:
    mesh.three_hosts()
    root_host(9)
    network = PrivateNetwork.objects.get()
    vm = mesh.server("web-9", on=host("h1"))
    with mesh.listening() as told:
        attach_to_network(vm, network)
    assert sorted(told.hosts) == ["h1", "h2", "h3"]
    assert all(told.of(host(name)).cables is None for name in told.hosts)


def test_a_bundle_holds_a_certificate_of_the_host_that_the_clouds_authority_signed(
    db: None,
) -> None:
    bundles = [add_host(name, make.location())["tls"] for name in ("h1", "h2", "h1")]
    assert len({bundle["authority"] for bundle in bundles}) == 1
    assert len({bundle["key"] for bundle in bundles}) == 3
    issuer = x509.load_pem_x509_certificate(bundles[0]["authority"].encode())
    certificate = x509.load_pem_x509_certificate(bundles[1]["certificate"].encode())
    certificate.verify_directly_issued_by(issuer)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["h2"]
    assert certificate.not_valid_after_utc.year > 2100


def test_no_trail_of_the_authority_holds_its_key(db: None) -> None:
    made = authority()
    assert authority() == made
    entry = AuditEntry.objects.get(verb="authority.create")
    assert entry.after
    assert entry.after["key"] == "(secret)"
