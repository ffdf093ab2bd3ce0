"""Floating IPs through the API, and what operators learn of addresses and interfaces."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from networks.models import Address, FloatingIp
from networks.spec import NicReport
from tests import factories as make
from tests.api.conftest import Api, api_of, host_says
from vms.models import VM

KEYS = {
    "id", "name", "description", "type", "ip", "server", "dns_ptr", "home_location", "blocked",
    "protection", "labels", "created",
}  # fmt: skip


def create(api: Api, **body: Any) -> dict[str, Any]:
    answer = api.post("floating_ips", {"type": "ipv4", "home_location": "lab", **body})
    assert answer.status == 201, answer.json
    ip: dict[str, Any] = answer.json["floating_ip"]
    return ip


def server(api: Api, order: dict[str, Any], name: str) -> int:
    answer = api.post("servers", {**order, "name": name})
    assert answer.status == 201, answer.json
    host_says(VM.objects.get(name=name))
    return int(answer.json["server"]["id"])


def floating_of(api: Api, number: int) -> list[int]:
    ids: list[int] = api.get(f"servers/{number}").json["server"]["public_net"]["floating_ips"]
    return ids


def test_an_ip_is_made_described_and_given_back(api: Api) -> None:
    ip = create(api)
    assert set(ip) == KEYS
    assert ip["name"].startswith("floating_ip-")
    assert (ip["ip"], ip["server"], ip["description"]) == ("203.0.113.1", None, "")
    assert ip["home_location"]["name"] == "lab"
    path = f"floating_ips/{ip['id']}"
    changed = api.put(path, {"name": "vip", "description": "", "labels": {"a": "b"}})
    assert changed.json["floating_ip"] == {**ip, "name": "vip", "labels": {"a": "b"}}
    assert api.put(path, {"description": "d" * 256}).fields == ["description"]
    found = api.get("floating_ips?name=vip&label_selector=a%3Db&sort=created").json["floating_ips"]
    assert [one["id"] for one in found] == [ip["id"]]
    assert api.get(f"{path}/actions").json["actions"] == []
    assert api.delete(path).status == 204
    assert api.get(path).status == 404


def test_an_ip_moves_from_server_to_server(api: Api, order: dict[str, Any]) -> None:
    old, new = server(api, order, "old"), server(api, order, "new")
    answer = api.post("floating_ips", {"type": "ipv4", "server": old, "name": "vip"})
    ip = answer.json["floating_ip"]
    assert (ip["server"], ip["home_location"]["name"]) == (old, "lab")
    assert answer.json["action"]["command"] == "assign_floating_ip"
    assert floating_of(api, old) == [ip["id"]]
    path = f"floating_ips/{ip['id']}"
    again = api.post(f"{path}/actions/assign", {"server": old})
    assert (again.status, again.code) == (422, "floating_ip_assigned")
    move = api.post(f"{path}/actions/assign", {"server": new}).json["action"]
    assert move["resources"] == [
        {"id": ip["id"], "type": "floating_ip"},
        {"id": new, "type": "server"},
    ]
    assert (floating_of(api, old), floating_of(api, new)) == ([], [ip["id"]])
    for vm in VM.objects.all():
        host_says(vm)
    assert api.get(f"actions/{move['id']}").json["action"]["status"] == "success"
    assert (api.delete(path).status, api.delete(path).code) == (422, "must_be_unassigned")
    away = api.post(f"{path}/actions/unassign").json["action"]
    assert (away["command"], away["status"]) == ("unassign_floating_ip", "running")
    host_says(VM.objects.get(pk=new))
    assert api.get(f"floating_ips/actions/{away['id']}").json["action"]["status"] == "success"
    assert api.get(path).json["floating_ip"]["server"] is None
    assert api.post(f"{path}/actions/unassign").json["action"]["status"] == "success"
    assert api.delete(path).status == 204


def test_a_server_that_is_deleted_lets_go_of_its_ip(api: Api, order: dict[str, Any]) -> None:
    number = server(api, order, "web-1")
    ip = create(api, server=number)
    api.delete(f"servers/{number}")
    host_says(VM.objects.get())
    assert api.get(f"floating_ips/{ip['id']}").json["floating_ip"]["server"] is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"type": None}, "type"),
        ({"type": "ipv5"}, "type"),
        ({"home_location": None}, "home_location"),
        ({"home_location": "moon"}, "home_location"),
        ({"server": 4242}, "server"),
        ({"name": "n" * 129}, "name"),
        ({"description": "d" * 256}, "description"),
        ({"labels": {"-": ""}}, "labels"),
    ],
)
def test_bad_input_names_its_field_and_leaves_nothing(
    api: Api, change: dict[str, Any], field: str
) -> None:
    answer = api.post("floating_ips", {"type": "ipv4", "home_location": "lab", **change})
    assert (answer.status, answer.code, answer.fields) == (422, "invalid_input", [field])
    assert not Address.objects.exists()


def test_where_an_ip_cannot_be_led_it_is_refused(api: Api, order: dict[str, Any]) -> None:
    ip = create(api)
    assign = f"floating_ips/{ip['id']}/actions/assign"
    make.host("far", location=make.location("moon"))
    make.pool("198.51.100.0/28", location=make.location("moon"))
    far = server(api, {**order, "location": "moon"}, "far")
    net = {"enable_ipv4": False, "enable_ipv6": False}
    dark = server(api, {**order, "public_net": net, "start_after_create": False}, "dark")
    for number in (far, dark, 4242):
        assert api.post(assign, {"server": number}).fields == ["server"]
    gone = server(api, order, "gone")
    api.delete(f"servers/{gone}")
    assert (api.post(assign, {"server": gone}).status, FloatingIp.objects.count()) == (423, 1)


def test_addresses_of_two_kinds_of_pools_do_not_meet_on_one_interface(
    api: Api, order: dict[str, Any]
) -> None:
    number = server(api, order, "web-1")
    make.pool("203.0.113.64/28", mode="bridged", gateway="203.0.113.65", owner=make.project())
    ip = create(api)
    assert ip["ip"] == "203.0.113.66"
    answer = api.post(f"floating_ips/{ip['id']}/actions/assign", {"server": number})
    assert (answer.status, answer.fields) == (422, ["server"])
    assert "bridged" in answer.error["message"]


def test_an_empty_pool_and_a_full_project_are_told_apart(api: Api, settings: Settings) -> None:
    answer = api.post("floating_ips", {"type": "ipv6", "home_location": "lab"})
    assert (answer.status, answer.code) == (412, "unavailable")
    settings.PROJECT_FLOATING_IPS = 0
    answer = api.post("floating_ips", {"type": "ipv4", "home_location": "lab"})
    assert (answer.status, answer.code) == (403, "resource_limit_exceeded")
    assert answer.error["details"] == {"limits": [{"name": "floating_ip_limit"}]}


def test_a_protected_ip_stays_and_a_name_is_stored(api: Api) -> None:
    ip = create(api)
    path = f"floating_ips/{ip['id']}"
    api.post(f"{path}/actions/change_protection", {"delete": True})
    assert api.delete(path).code == "protected"
    body = {"ip": ip["ip"], "dns_ptr": "vip.example.org"}
    action = api.post(f"{path}/actions/change_dns_ptr", body).json["action"]
    assert action["resources"] == [{"id": ip["id"], "type": "floating_ip"}]
    shown = api.get(path).json["floating_ip"]
    assert shown["dns_ptr"] == [body]
    assert shown["protection"] == {"delete": True}


def test_operators_learn_who_held_an_address_when(api: Api, order: dict[str, Any]) -> None:
    before = timezone.now() - timedelta(hours=1)
    number = server(api, order, "web-1")
    meanwhile = timezone.now()
    api.delete(f"servers/{number}")
    host_says(VM.objects.get())
    path = "addresses/203.0.113.1/history"
    assert api.get(path).code == "forbidden"
    operator = api_of(make.project("operators"), operator=True)
    answer = operator.get(f"{path}?at={quote(meanwhile.isoformat())}").json
    assert set(answer) == {"history", "meta"}
    (tenure,) = answer["history"]
    assert tenure["project"] == {"id": make.project().pk, "name": "default"}
    assert tenure["server"] == {"id": number, "name": "web-1"}
    assert tenure["holder"]["type"] == "primary_ip"
    assert (tenure["ip"], tenure["host"]) == ("203.0.113.1", "h1")
    assert tenure["since"] < tenure["until"]
    assert operator.get(path).json["history"] == [tenure]
    for moment in (before, timezone.now()):
        # The sign of the offset is often not escaped.
        assert operator.get(f"{path}?at={moment.isoformat()}").json["history"] == []
    assert operator.get("addresses/2001:db8::1/history").json["history"] == []
    assert operator.get("addresses/nonsense/history").fields == ["ip"]
    for nonsense in ("yesterday", "2026-11-25T08:00:00", "2026-13-25T08:00:00Z"):
        assert operator.get(f"{path}?at={nonsense}").fields == ["at"]


def test_operators_see_what_hosts_saw_at_interfaces(api: Api, order: dict[str, Any]) -> None:
    number = server(api, order, "web-1")
    vm = VM.objects.get()
    host_says(vm, nics=(NicReport(0, ("203.0.113.77",), {"mac": 3}),))
    path = f"hosts/{vm.host_id}/nics"
    assert api.get(path).code == "forbidden"
    operator = api_of(make.project("operators"), operator=True)
    (nic,) = operator.get(path).json["nics"]
    assert nic["server"] == {"id": number, "name": "web-1"}
    assert (nic["mode"], nic["addresses"]) == ("routed", ["203.0.113.1"])
    assert (nic["learned"], nic["dropped"]) == (["203.0.113.77"], {"mac": 3})
    assert operator.get("hosts/4242/nics").status == 404
    assert "learned" not in str(api.get(f"servers/{number}").json)
