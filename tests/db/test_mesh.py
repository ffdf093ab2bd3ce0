"""Hosts enter the mesh of private networks, move in it, and are cut off from it."""

from __future__ import annotations

from io import StringIO
from urllib.parse import urlsplit

import pytest
from amqp.exceptions import AccessRefused
from django.core.management import call_command
from django.core.management.base import CommandError
from kombu import Connection

from cloud.hosts import add_host
from cloud.models import Host
from networks.models import PrivateNetwork
from networks.spec import NetworkRemoval
from tests import factories as make
from tests.db import mesh
from vms.private.hosts import cut_off

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("rabbitmq")]


@pytest.fixture
def hosts(db: None) -> list[Host]:
    return mesh.three_hosts()


@pytest.fixture
def network(hosts: list[Host]) -> PrivateNetwork:
    return PrivateNetwork.objects.get(name="backend")


def test_a_new_endpoint_or_key_reaches_just_the_hosts_that_share_a_network(
    hosts: list[Host], network: PrivateNetwork
) -> None:
    mesh.heartbeat(hosts[1])
    with mesh.listening() as told:
        mesh.heartbeat(hosts[1])
        mesh.heartbeat(hosts[0], tunnel_endpoint="192.0.2.50:51820")
    assert told.hosts == []
    with mesh.listening() as told:
        mesh.heartbeat(hosts[1], tunnel_endpoint="198.51.100.9:4000")
    assert told.hosts == ["h3"]
    assert told.of(hosts[2]).peers[0].endpoint == "198.51.100.9:4000"
    with mesh.listening() as told:
        mesh.heartbeat(hosts[1], tunnel_endpoint=None)
    assert told.of(hosts[2]).peers[0].endpoint is None


def test_a_host_gets_its_own_address_in_the_mesh_with_its_first_key(hosts: list[Host]) -> None:
    new = make.host("h9")
    mesh.heartbeat(new, tunnel_key=mesh.key_of("h9"))
    new.refresh_from_db()
    assert new.tunnel_ip
    assert new.tunnel_ip.startswith("100.64.")
    assert new.in_mesh
    first = new.tunnel_ip
    mesh.heartbeat(new, tunnel_key=mesh.key_of("h9 again"))
    new.refresh_from_db()
    assert (new.tunnel_ip, new.tunnel_key) == (first, mesh.key_of("h9 again"))


def test_no_host_takes_the_key_of_another_one(hosts: list[Host]) -> None:
    mesh.heartbeat(hosts[0], tunnel_key=mesh.key_of("h2"))
    hosts[0].refresh_from_db()
    assert hosts[0].tunnel_key == mesh.key_of("h1")
    assert hosts[0].last_heartbeat is not None


def test_a_revoked_host_is_nobodys_peer_and_is_not_listened_to(
    hosts: list[Host], network: PrivateNetwork
) -> None:
    with mesh.listening() as told:
        cut_off(hosts[1])
    documents = dict(told.networks)
    assert isinstance(documents["h2"], NetworkRemoval)
    assert told.of(hosts[2]).peers == ()
    assert len(told.of(hosts[2]).members) == 1
    with mesh.listening() as told:
        mesh.heartbeat(hosts[1], tunnel_endpoint="192.0.2.66:51820")
    assert told.hosts == []
    assert Host.objects.get(name="h2").last_heartbeat is None


def test_a_revoked_host_has_no_way_to_the_broker_until_it_gets_a_new_bundle(
    hosts: list[Host], rabbitmq: str
) -> None:
    login = urlsplit(add_host("h2", make.location())["broker_url"]).netloc.partition("@")[0]
    broker = urlsplit(rabbitmq)
    url = f"{broker.scheme}://{login}@{broker.hostname}:{broker.port}{broker.path}"
    with Connection(url) as connection:
        connection.connect()
    call_command("host_revoke", "h2", stdout=StringIO())
    call_command("host_revoke", "h2", stdout=StringIO())
    with pytest.raises(AccessRefused), Connection(url) as connection:
        connection.connect()
    assert add_host("h2", make.location())
    assert Host.objects.get(name="h2").revoked_at is None
    with pytest.raises(CommandError):
        call_command("host_revoke", "h77")


def test_a_revoked_host_that_joins_again_has_its_networks_back(
    hosts: list[Host], network: PrivateNetwork
) -> None:
    cut_off(hosts[1])
    Host.objects.filter(pk=hosts[1].pk).update(revoked_at=None)
    with mesh.listening() as told:
        mesh.heartbeat(hosts[1])
    assert sorted(told.hosts) == ["h2", "h3"]
    assert len(told.of(hosts[1]).members) == 2
