"""Hosts without privileges through the API: servers that are reached by ports of their host."""

from __future__ import annotations

from typing import Any

import pytest

from cloud.models import AuditEntry, Host
from networks.models import Network
from tests import factories as make
from tests.api.conftest import Api, api_of, host_says
from tests.api.test_schema import conforms, document  # noqa: F401  (a fixture)
from vms.models import VM

pytestmark = [pytest.mark.rootless, pytest.mark.django_db]

SSH = {"protocol": "tcp", "guest_port": 22}
HTTP = {"protocol": "tcp", "guest_port": 80}


@pytest.fixture
def user_mode(api: Api) -> None:
    """A cloud of one host without privileges, and no pool."""
    Host.objects.all().delete()
    Network.objects.all().delete()
    make.user_host()


@pytest.fixture
def server(user_mode: None, api: Api, order: dict[str, Any]) -> int:
    """A running server."""
    answer = api.post("servers", order)
    host_says(VM.objects.get())
    return int(answer.json["server"]["id"])


def led(port: int, guest_port: int, protocol: str = "tcp") -> dict[str, Any]:
    return {"protocol": protocol, "ip": "192.0.2.30", "port": port, "guest_port": guest_port}


def shown(api: Api, server: int) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"servers/{server}").json["server"]["public_net"]
    return found


def test_a_server_that_asks_for_nothing_special_is_reached_by_ssh_at_its_host(
    user_mode: None, api: Api, order: dict[str, Any]
) -> None:
    answer = api.post("servers", order)
    assert answer.status == 201
    net = answer.json["server"]["public_net"]
    assert net["forwarded_ports"] == [led(30000, 22)]
    assert (net["ipv4"], net["ipv6"], net["floating_ips"], net["firewalls"]) == (None, None, [], [])
    host_says(VM.objects.get())
    assert api.get(f"actions/{answer.json['action']['id']}").json["action"]["status"] == "success"


def test_a_server_with_an_address_has_an_empty_list(api: Api, order: dict[str, Any]) -> None:
    net = api.post("servers", order).json["server"]["public_net"]
    assert net["ipv4"]["ip"] == "203.0.113.1"
    assert net["forwarded_ports"] == []


def test_ports_are_named_in_place_of_addresses(api: Api, order: dict[str, Any]) -> None:
    make.user_host()
    body = {**order, "public_net": {"forwarded_ports": [SSH, HTTP]}}
    net = api.post("servers", body).json["server"]["public_net"]
    assert net["forwarded_ports"] == [led(30000, 22), led(30001, 80)]
    both = {**order, "name": "web-2", "public_net": {"enable_ipv4": True, "forwarded_ports": [SSH]}}
    refused = api.post("servers", both)
    assert (refused.status, refused.code) == (422, "invalid_input")
    assert refused.fields == ["public_net.forwarded_ports"]


def test_what_was_asked_for_explicitly_is_given_or_refused_with_the_reason(
    user_mode: None, api: Api, order: dict[str, Any]
) -> None:
    for net in ({"enable_ipv4": True}, {"enable_ipv4": True, "enable_ipv6": False}):
        refused = api.post("servers", {**order, "public_net": net})
        assert (refused.status, refused.code) == (412, "resource_unavailable")
        assert "u1: is in user mode, and no TAP" in refused.error["message"]


def test_what_clients_always_say_asks_for_nothing_special(
    user_mode: None, api: Api, order: dict[str, Any]
) -> None:
    for number, net in enumerate(
        ({"enable_ipv4": True, "enable_ipv6": True}, {"enable_ipv6": False}, {})
    ):
        body = {**order, "name": f"web-{number}", "public_net": net}
        shown = api.post("servers", body).json["server"]["public_net"]
        assert shown["forwarded_ports"] == [led(30000 + number, 22)]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ([{"protocol": "icmp", "guest_port": 1}], "public_net.forwarded_ports"),
        ([{"protocol": "tcp", "guest_port": 0}], "public_net.forwarded_ports"),
        ([{"protocol": "tcp"}], "public_net.forwarded_ports"),
        ("22", "public_net.forwarded_ports"),
        ([SSH, SSH], "forwarded_ports"),
        ([{**SSH, "port": 2222}], "public_net.forwarded_ports.0.port"),
        ([{**SSH, "ip": "192.0.2.30"}], "public_net.forwarded_ports.0.ip"),
    ],
)
def test_a_wrong_port_is_named_by_its_field(
    user_mode: None, api: Api, order: dict[str, Any], wrong: Any, field: str
) -> None:
    refused = api.post("servers", {**order, "public_net": {"forwarded_ports": wrong}})
    assert (refused.status, refused.code) == (422, "invalid_input")
    assert refused.fields[0].startswith(field)


def test_a_refused_port_says_what_can_be_asked_for(
    user_mode: None, api: Api, order: dict[str, Any]
) -> None:
    for wrong, said in (
        ({"protocol": "sctp"}, '"sctp" is not one of tcp, udp'),
        ({"port": 2222}, "the host's port is chosen by the cloud: leave `port` out"),
    ):
        body = {**order, "public_net": {"forwarded_ports": [{**SSH, **wrong}]}}
        assert said in api.post("servers", body).error["message"]


def test_ports_are_changed_while_the_server_runs(api: Api, server: int) -> None:
    path = f"servers/{server}/actions/change_forwarded_ports"
    body = {"forwarded_ports": [HTTP, {"protocol": "udp", "guest_port": 53}]}
    answer = api.post(path, body, **{"Idempotency-Key": "once", "X-Request-ID": "req-ports"})
    action = answer.json["action"]
    assert (answer.status, action["status"]) == (201, "running")
    assert action["command"] == "change_forwarded_ports"
    assert action["resources"] == [{"id": server, "type": "server"}]
    again = api.post(path, body, **{"Idempotency-Key": "once"})
    assert again.json == answer.json
    # 30000 is not lent again before its host let go of it.
    wanted = [led(30001, 80), led(30000, 53, "udp")]
    assert shown(api, server)["forwarded_ports"] == wanted

    entry = AuditEntry.objects.get(verb="nic.change_forwarded_ports")
    assert entry.before == {"forwarded_ports": ["30000 to 22/tcp"]}
    assert entry.after == {"forwarded_ports": ["30001 to 80/tcp", "30000 to 53/udp"]}
    assert (entry.request_id, entry.action_id) == ("req-ports", action["id"])

    host_says(VM.objects.get())
    assert api.get(f"actions/{action['id']}").json["action"]["status"] == "success"
    assert api.post(path, body).json["action"]["status"] == "success"
    assert api.get(f"servers/{server}").json["server"]["status"] == "running"
    api.post(path, {"forwarded_ports": []})
    assert shown(api, server)["forwarded_ports"] == []


def test_ports_are_refused_with_what_to_do(api: Api, order: dict[str, Any]) -> None:
    server = api.post("servers", order).json["server"]["id"]
    path = f"servers/{server}/actions/change_forwarded_ports"
    assert api.post(path, {"forwarded_ports": [SSH]}).code == "locked"
    host_says(VM.objects.get())
    refused = api.post(path, {"forwarded_ports": [SSH]})
    assert (refused.status, refused.code) == (422, "server_not_behind_host")
    assert "only hosts in user mode forward ports" in refused.error["message"]
    assert api.post(path, {}).fields == ["forwarded_ports"]
    foreign = api_of(make.project("other"))
    assert foreign.post(path, {"forwarded_ports": [SSH]}).code == "not_found"
    reader = api_of(make.project(), read_only=True)
    assert reader.post(path, {"forwarded_ports": [SSH]}).code == "token_readonly"


def test_a_host_that_forwards_no_more_has_no_port_to_give(api: Api, server: int) -> None:
    Host.objects.update(forward_ip=None, first_forward_port=0, last_forward_port=0)
    path = f"servers/{server}/actions/change_forwarded_ports"
    refused = api.post(path, {"forwarded_ports": [SSH, HTTP]})
    assert (refused.status, refused.code) == (412, "resource_unavailable")
    assert "has 0 tcp ports free of 1 needed" in refused.error["message"]
    assert shown(api, server)["forwarded_ports"] == [{**led(30000, 22), "ip": None}]


def test_a_firewall_is_refused_by_its_own_code(api: Api, server: int) -> None:
    to = [{"type": "server", "server": {"id": server}}]
    refused = api.post("firewalls", {"name": "web", "apply_to": to})
    assert (refused.status, refused.code) == (422, "firewall_unenforceable")
    assert "create it on another host" in refused.error["message"]
    assert shown(api, server)["firewalls"] == []


def test_operators_see_what_a_host_gives_and_lacks(user_mode: None) -> None:
    problem = {"code": "vde_missing", "message": "Install vde2."}
    ranges = ["198.51.100.128/28"]
    Host.objects.update(problems=[problem], public_ranges=ranges, cable_endpoint="192.0.2.30:51821")
    (host,) = api_of(make.project(), operator=True).get("hosts").json["hosts"]
    assert (host["network_mode"], host["in_mesh"]) == ("vde", False)
    assert (host["forward_ip"], host["public_ranges"]) == ("192.0.2.30", ranges)
    assert host["forward_ports"] == {"first": 30000, "last": 30999}
    assert (host["cables"], host["cable_endpoint"]) == (True, "192.0.2.30:51821")
    assert host["problems"] == [problem]


def test_a_host_with_privileges_says_that_it_forwards_nothing(api: Api) -> None:
    (host,) = api_of(make.project(), operator=True).get("hosts").json["hosts"]
    assert (host["forward_ip"], host["forward_ports"], host["problems"]) == (None, None, [])


def test_answers_are_what_the_document_says(
    api: Api,
    server: int,
    document: dict[str, Any],  # noqa: F811
) -> None:
    path = "/v1/servers/{id}/actions/change_forwarded_ports"
    changed = api.post(path.format(id=server)[4:], {"forwarded_ports": [SSH, HTTP]})
    conforms(document, path, "post", 201, changed.json)
    conforms(document, "/v1/servers", "get", 200, api.get("servers").json)
    operator = api_of(make.project(), operator=True)
    conforms(document, "/v1/hosts", "get", 200, operator.get("hosts").json)
    nics = operator.get(f"hosts/{Host.objects.get().pk}/nics").json
    conforms(document, "/v1/hosts/{owner}/nics", "get", 200, nics)
    assert nics["nics"][0]["mode"] == "user"
    assert nics["nics"][0]["forwarded_ports"] == ["30000 to 22/tcp", "30001 to 80/tcp"]
