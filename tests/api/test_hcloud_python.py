"""Stories told with the contract's official Python client against the running API."""

from __future__ import annotations

from typing import Any

import pytest
from hcloud import APIException, Client
from hcloud.firewalls import FirewallResource, FirewallResourceLabelSelector, FirewallRule
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.networks import NetworkRoute, NetworkSubnet
from hcloud.server_types import ServerType
from hcloud.servers import Server
from hcloud.servers.domain import ServerCreatePublicNetwork
from hcloud.ssh_keys import SSHKey

from cloud.models import Host
from networks.models import Network
from tests import factories as make
from tests.api.conftest import Api, obedient_host
from tests.db import mesh

pytestmark = pytest.mark.django_db(transaction=True)

ORDER: dict[str, Any] = {
    "server_type": ServerType(name="nano"),
    "image": Image(name="micro"),
}


@pytest.fixture
def client(api: Api, live_server: Any) -> Client:
    return client_of(api, live_server)


def client_of(api: Api, live_server: Any) -> Client:
    return Client(
        token=str(api.token),
        api_endpoint=f"{live_server.url}/v1",
        application_name="cumulet-tests",
        poll_interval=0.05,
        poll_max_retries=200,
    )


def test_the_life_of_a_server(client: Client) -> None:
    key = client.ssh_keys.create(name="mine", public_key=make.SSH_KEY, labels={"who": "me"})
    with obedient_host():
        created = client.servers.create(
            name="web-1",
            ssh_keys=[key],
            location=Location(name="lab"),
            user_data="#cloud-config\n",
            labels={"env": "test"},
            **ORDER,
        )
        assert created.root_password is None
        assert created.server.public_net.ipv4.ip == "203.0.113.1"
        created.action.wait_until_finished()
        for action in created.next_actions:
            action.wait_until_finished()

        server = client.servers.get_by_name("web-1")
        assert server.status == Server.STATUS_RUNNING
        assert server.image.name == "micro"
        assert server.location.name == "lab"
        server.update(labels={"env": "prod"})
        assert client.servers.get_all(label_selector="env=prod,!old")[0].id == server.id

        server.shutdown().wait_until_finished()
        server.reload()
        assert server.status == Server.STATUS_OFF
        for begin in (server.power_on, server.reboot, server.reset, server.power_off):
            begin().wait_until_finished()
        assert server.get_actions(status=["success"], sort=["id:desc"])[0].command == "stop_server"

        server.change_protection(delete=True, rebuild=True).wait_until_finished()
        with pytest.raises(APIException) as refused:
            server.delete()
        assert refused.value.code == "protected"
        server.change_protection(delete=False, rebuild=False)
        deletion = server.delete()
        deletion.wait_until_finished()
        assert client.servers.get_by_name("web-1") is None
        assert client.actions.get_by_id(deletion.id).status == "success"
    assert key.delete()


def test_the_life_of_a_firewall(client: Client) -> None:
    web = FirewallRule(direction="in", protocol="tcp", port="80", source_ips=["0.0.0.0/0", "::/0"])
    ping = FirewallRule(direction="in", protocol="icmp", source_ips=["192.0.2.0/24"])
    prod = FirewallResource(
        "label_selector", label_selector=FirewallResourceLabelSelector("env=prod")
    )
    with obedient_host():
        made = client.firewalls.create("web", rules=[web], labels={"a": "b"})
        firewall = made.firewall
        created = client.servers.create(name="web-1", firewalls=[firewall], **ORDER)
        created.action.wait_until_finished()
        server = client.servers.get_by_name("web-1")
        assert [one.firewall.id for one in server.public_net.firewalls] == [firewall.id]
        assert server.public_net.firewalls[0].status == "applied"

        for action in firewall.set_rules([ping, web]):
            action.wait_until_finished()
        firewall = client.firewalls.get_by_name("web")
        assert [rule.protocol for rule in firewall.rules] == ["icmp", "tcp"]
        assert firewall.applied_to[0].server.id == server.id

        for action in firewall.apply_to_resources([prod]):
            action.wait_until_finished()
        server.update(labels={"env": "prod"})
        firewall.reload()
        (by_label,) = [one for one in firewall.applied_to if one.type == "label_selector"]
        assert [one.server.id for one in by_label.applied_to_resources] == [server.id]
        with pytest.raises(APIException) as refused:
            firewall.delete()
        assert refused.value.code == "resource_in_use"

        for action in firewall.remove_from_resources(
            [FirewallResource("server", server=server), prod]
        ):
            action.wait_until_finished()
        server.reload()
        assert server.public_net.firewalls == []
        assert firewall.get_actions(sort=["id:desc"])[0].command == "remove_firewall"
    renamed = firewall.update(name="www")
    assert renamed.delete()
    assert client.firewalls.get_all() == []


def test_a_wrong_rule_is_named_by_its_place(client: Client) -> None:
    rule = FirewallRule(direction="in", protocol="tcp", port="80", source_ips=["10.0.0.1/8"])
    with pytest.raises(APIException) as refused:
        client.firewalls.create("web", rules=[rule])
    assert refused.value.details["fields"][0]["name"] == "rules.0.source_ips.0"


def test_a_server_that_is_not_to_start_is_off(client: Client) -> None:
    with obedient_host():
        created = client.servers.create(name="cold", start_after_create=False, **ORDER)
        created.action.wait_until_finished()
        assert created.next_actions == []
        assert created.root_password
        assert client.servers.get_by_id(created.server.id).status == Server.STATUS_OFF


def test_a_server_may_have_no_address(client: Client) -> None:
    created = client.servers.create(
        name="dark",
        start_after_create=False,
        public_net=ServerCreatePublicNetwork(enable_ipv4=False, enable_ipv6=False),
        **ORDER,
    )
    assert created.server.public_net.ipv4 is None
    assert created.server.public_net.ipv6 is None


def test_primary_ips_are_kept_assigned_and_named(client: Client) -> None:
    make.pool("2001:db8::/56")
    place = Location(name="lab")
    kept = client.primary_ips.create(type="ipv4", name="kept", location=place).primary_ip
    assert kept.assignee_id is None
    with obedient_host():
        created = client.servers.create(
            name="web-1",
            start_after_create=False,
            public_net=ServerCreatePublicNetwork(ipv4=kept, enable_ipv6=True),
            **ORDER,
        )
        created.action.wait_until_finished()
        server = client.servers.get_by_name("web-1")
        net = server.public_net
        assert (net.ipv4.ip, net.primary_ipv4.id) == (kept.ip, kept.id)
        assert (net.ipv6.ip, net.ipv6.network_mask) == ("2001:db8::/64", "64")
        server.change_dns_ptr(kept.ip, "web.example.org").wait_until_finished()
        net.primary_ipv6.change_dns_ptr("2001:db8::1", "six.example.org").wait_until_finished()
        kept.reload()
        assert kept.dns_ptr == [{"ip": kept.ip, "dns_ptr": "web.example.org"}]
        with pytest.raises(APIException) as refused:
            kept.delete()
        assert refused.value.code == "must_be_unassigned"
        kept.unassign().wait_until_finished()
        kept.assign(server.id, "server").wait_until_finished()
        server.delete().wait_until_finished()
    # What was kept before stays, what came with the server went with it.
    (left,) = client.primary_ips.get_all()
    assert (left.id, left.assignee_id) == (kept.id, None)
    left.update(labels={"env": "test"})
    left.change_protection(delete=True).wait_until_finished()
    assert client.primary_ips.get_all(label_selector="env")[0].protection == {"delete": True}
    left.change_protection(delete=False)
    assert left.delete()


def test_a_floating_ip_moves_between_servers(client: Client) -> None:
    with obedient_host():
        old, new = (client.servers.create(name=name, **ORDER) for name in ("old", "new"))
        for created in (old, new):
            for action in (created.action, *created.next_actions):
                action.wait_until_finished()
        made = client.floating_ips.create(type="ipv4", server=old.server, description="vip")
        made.action.wait_until_finished()
        ip = made.floating_ip
        assert (ip.server.id, ip.home_location.name) == (old.server.id, "lab")
        ip.assign(new.server).wait_until_finished()
        new.server.reload()
        assert [one.id for one in new.server.public_net.floating_ips] == [ip.id]
        ip.change_dns_ptr(ip.ip, "vip.example.org").wait_until_finished()
        ip.unassign().wait_until_finished()
        ip.update(description="unused", name="vip")
    assert client.floating_ips.get_by_name("vip").description == "unused"
    commands = [action.command for action in ip.get_actions_list()[0]]
    assert commands == [
        "assign_floating_ip", "assign_floating_ip", "change_dns_ptr", "unassign_floating_ip",
    ]  # fmt: skip
    assert ip.delete()


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"image": Image(name="windows")}, "invalid_input", "image"),
        ({"server_type": ServerType(id=4242)}, "invalid_input", "server_type"),
        ({"ssh_keys": [SSHKey(name="nobody")]}, "invalid_input", "ssh_keys"),
        ({"location": Location(name="moon")}, "invalid_input", "location"),
        ({"name": "no_hostname"}, "invalid_input", "name"),
    ],
)
def test_an_error_reaches_the_caller_with_its_field(
    client: Client, change: dict[str, Any], code: str, field: str
) -> None:
    with pytest.raises(APIException) as refused:
        client.servers.create(**{"name": "web-1", **ORDER, **change})
    assert refused.value.code == code
    assert refused.value.details["fields"][0]["name"] == field
    assert refused.value.correlation_id


def test_a_wrong_token_is_told_so(live_server: Any, lab: None) -> None:
    with pytest.raises(APIException) as refused:
        client_of(Api(token="0" * 64), live_server).servers.get_all()
    assert refused.value.code == "unauthorized"


def test_the_life_of_a_private_network(client: Client) -> None:
    Host.objects.update(**mesh.facts(1))
    network = client.networks.create(
        name="backend",
        ip_range="10.0.0.0/16",
        subnets=[NetworkSubnet(type="cloud", network_zone="local", ip_range="10.0.1.0/24")],
        routes=[NetworkRoute(destination="10.100.1.0/24", gateway="10.0.1.7")],
        labels={"env": "test"},
    )
    assert network.subnets[0].gateway == "10.0.1.1"
    assert network.routes[0].gateway == "10.0.1.7"
    with obedient_host():
        created = client.servers.create(name="web-1", networks=[network], **ORDER)
        for action in (created.action, *created.next_actions):
            action.wait_until_finished()
        server = client.servers.get_by_name("web-1")
        (private,) = server.private_net
        assert (private.network.id, private.ip, private.alias_ips) == (network.id, "10.0.1.2", [])
        assert private.mac_address
        server.change_alias_ips(network, ["10.0.1.50"]).wait_until_finished()
        server.detach_from_network(network).wait_until_finished()
        server.attach_to_network(network, ip="10.0.1.9").wait_until_finished()
        server.reload()
        assert server.private_net[0].ip == "10.0.1.9"
        with pytest.raises(APIException) as refused:
            server.attach_to_network(network)
        assert refused.value.code == "server_already_attached"

        subnet = NetworkSubnet(type="cloud", network_zone="local", ip_range="10.0.0.0/24")
        network.add_subnet(subnet).wait_until_finished()
        route = NetworkRoute(destination="10.100.2.0/24", gateway="10.0.1.7")
        network.add_route(route).wait_until_finished()
        network.delete_route(route).wait_until_finished()
        network.delete_subnet(subnet).wait_until_finished()
        network.change_ip_range("10.0.0.0/12").wait_until_finished()
        network.change_protection(delete=True).wait_until_finished()
        network = network.update(name="back", expose_routes_to_vswitch=True)
        assert network.protection == {"delete": True}
        assert network.expose_routes_to_vswitch
        assert client.networks.get_by_name("back").ip_range == "10.0.0.0/12"
        assert network.servers[0].id == server.id
        network.change_protection(delete=False).wait_until_finished()
        assert network.delete()
        server.reload()
        assert server.private_net == []


@pytest.mark.rootless
def test_a_server_behind_its_host_is_like_any_other(client: Client) -> None:
    Host.objects.all().delete()
    Network.objects.all().delete()
    make.user_host()
    with obedient_host():
        created = client.servers.create(name="web-1", **ORDER)
        for action in (created.action, *created.next_actions):
            action.wait_until_finished()
        (server,) = client.servers.get_all()
        assert server.status == Server.STATUS_RUNNING
        assert (server.public_net.ipv4, server.public_net.ipv6) == (None, None)
        assert (server.public_net.firewalls, server.public_net.floating_ips) == ([], [])
        server.reboot().wait_until_finished()
        four = ServerCreatePublicNetwork(enable_ipv6=False)
        with pytest.raises(APIException) as refused:
            client.servers.create(name="web-2", public_net=four, **ORDER)
        assert refused.value.code == "resource_unavailable"
        server.delete().wait_until_finished()


def test_everything_that_can_be_listed_is(client: Client) -> None:
    assert [place.name for place in client.locations.get_all()] == ["lab"]
    assert [size.name for size in client.server_types.get_all()] == ["nano"]
    assert [image.name for image in client.images.get_all(type="system")] == ["micro"]
    assert client.images.get_by_name_and_architecture("micro", "x86") is not None
    for empty in (
        client.certificates, client.firewalls, client.floating_ips, client.isos,
        client.load_balancer_types, client.load_balancers, client.networks,
        client.placement_groups, client.primary_ips, client.servers, client.ssh_keys,
        client.volumes, client.zones,
    ):  # fmt: skip
        assert empty.get_all() == []
    for empty in (client.servers, client.images, client.volumes, client.networks):
        assert empty.actions.get_all() == []


def test_datacenters_are_there_for_those_who_ask(client: Client) -> None:
    with pytest.deprecated_call():
        (datacenter,) = client.datacenters.get_all()
    with pytest.deprecated_call():
        sizes = datacenter.server_types.available
    assert datacenter.name == "lab-dc1"
    assert [size.id for size in sizes] == [make.server_type().pk]
