"""Primary IPs through the API: kept, given to servers, named, protected, given back."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django.fixtures import Settings

from networks.models import Address, Network, PrimaryIp
from tests import factories as make
from tests.api.conftest import Api, api_of, host_says
from vms.models import VM

KEYS = {
    "id", "name", "type", "ip", "assignee_id", "assignee_type", "auto_delete", "blocked",
    "location", "datacenter", "dns_ptr", "labels", "protection", "created",
}  # fmt: skip


@pytest.fixture
def api(api: Api) -> Api:
    """With IPv6 too."""
    make.pool("2001:db8::/56")
    return api


def create(api: Api, name: str = "mine", **body: Any) -> dict[str, Any]:
    answer = api.post("primary_ips", {"name": name, "type": "ipv4", "location": "lab", **body})
    assert answer.status == 201, answer.json
    ip: dict[str, Any] = answer.json["primary_ip"]
    return ip


def off_server(api: Api, name: str = "web-1", **public_net: Any) -> int:
    """A server that is off, by default without any address."""
    net = {"enable_ipv4": False, "enable_ipv6": False, **public_net}
    body = {"name": name, "server_type": "nano", "image": "micro", "start_after_create": False}
    answer = api.post("servers", {**body, "public_net": net})
    assert answer.status == 201, answer.json
    host_says(VM.objects.get(name=name))
    return int(answer.json["server"]["id"])


def running_server(api: Api, order: dict[str, Any], **changes: Any) -> dict[str, Any]:
    answer = api.post("servers", {**order, **changes})
    assert answer.status == 201, answer.json
    host_says(VM.objects.get(pk=answer.json["server"]["id"]))
    server: dict[str, Any] = answer.json["server"]
    return server


def test_an_ip_is_kept_renamed_and_given_back(api: Api) -> None:
    ip = create(api, labels={"env": "test"})
    assert set(ip) == KEYS
    assert (ip["ip"], ip["type"], ip["blocked"]) == ("203.0.113.1", "ipv4", False)
    assert (ip["assignee_id"], ip["assignee_type"], ip["auto_delete"]) == (
        None,
        "unassigned",
        False,
    )
    assert ip["dns_ptr"] == [{"ip": "203.0.113.1", "dns_ptr": "static.1.113.0.203.cumulet.invalid"}]
    assert ip["location"]["name"] == "lab"
    assert ip["datacenter"]["name"] == "lab-dc1"
    path = f"primary_ips/{ip['id']}"
    assert api.put(path, {}).json["primary_ip"] == ip
    changed = api.put(path, {"name": "ours", "auto_delete": True}).json["primary_ip"]
    assert changed == {**ip, "name": "ours", "auto_delete": True}
    assert api.put(path, {"labels": {}}).json["primary_ip"]["labels"] == {}
    assert api.delete(path).status == 204
    assert (api.get(path).status, api.delete(path).status) == (404, 404)
    assert create(api)["ip"] == "203.0.113.1"


def test_an_ipv6_network_has_any_number_of_names(api: Api) -> None:
    ip = create(api, type="ipv6")
    assert (ip["ip"], ip["dns_ptr"]) == ("2001:db8::/64", [])
    change = f"primary_ips/{ip['id']}/actions/change_dns_ptr"
    for address, name in (("2001:db8::2", "two.example.org"), ("2001:db8:0::1", "one.example.org")):
        action = api.post(change, {"ip": address, "dns_ptr": name}).json["action"]
        assert (action["command"], action["status"]) == ("change_dns_ptr", "success")
    names = api.get(f"primary_ips/{ip['id']}").json["primary_ip"]["dns_ptr"]
    assert names == [
        {"ip": "2001:db8::1", "dns_ptr": "one.example.org"},
        {"ip": "2001:db8::2", "dns_ptr": "two.example.org"},
    ]
    api.post(change, {"ip": "2001:db8::2", "dns_ptr": None})
    assert len(api.get(f"primary_ips/{ip['id']}").json["primary_ip"]["dns_ptr"]) == 1


def test_ipv4_always_has_one_name(api: Api) -> None:
    ip = create(api)
    change = f"primary_ips/{ip['id']}/actions/change_dns_ptr"
    api.post(change, {"ip": ip["ip"], "dns_ptr": "web.example.org"})
    found = api.get(f"primary_ips/{ip['id']}").json["primary_ip"]["dns_ptr"]
    assert found == [{"ip": ip["ip"], "dns_ptr": "web.example.org"}]
    api.post(change, {"ip": ip["ip"], "dns_ptr": None})
    assert api.get(f"primary_ips/{ip['id']}").json["primary_ip"]["dns_ptr"] == ip["dns_ptr"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"dns_ptr": "a.example.org"}, "ip"),
        ({"ip": "203.0.113.99", "dns_ptr": "a.example.org"}, "ip"),
        ({"ip": "nonsense", "dns_ptr": "a.example.org"}, "ip"),
        ({"ip": "203.0.113.1", "dns_ptr": "not a name"}, "dns_ptr"),
        ({"ip": "203.0.113.1", "dns_ptr": "-a.example.org"}, "dns_ptr"),
        ({"ip": "203.0.113.1", "dns_ptr": "a..example.org"}, "dns_ptr"),
        ({"ip": "203.0.113.1", "dns_ptr": f"{'a' * 64}.example.org"}, "dns_ptr"),
        # An expression that may cut it anywhere would try for years.
        ({"ip": "203.0.113.1", "dns_ptr": f"{'a' * 62}!"}, "dns_ptr"),
    ],
)
def test_a_name_that_is_none_is_refused(api: Api, body: dict[str, Any], field: str) -> None:
    ip = create(api)
    answer = api.post(f"primary_ips/{ip['id']}/actions/change_dns_ptr", body)
    assert (answer.status, answer.fields) == (422, [field])


def test_lists_are_filtered_by_name_address_and_labels(api: Api) -> None:
    create(api, "four", labels={"env": "prod"})
    create(api, "six", type="ipv6")

    def names(query: str) -> list[str]:
        return [ip["name"] for ip in api.get(f"primary_ips?{query}").json["primary_ips"]]

    assert names("") == ["four", "six"]
    assert names("name=six") == names("ip=2001:db8::/64") == names("ip=2001:db8::1") == ["six"]
    assert names("ip=203.0.113.1") == names("label_selector=env") == ["four"]
    assert names("ip=203.0.113.9") == names("ip=nonsense") == []
    assert names("sort=created:desc") == ["six", "four"]
    other = api_of(make.project("other"))
    assert other.get("primary_ips").json["primary_ips"] == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "n" * 129}, "name"),
        ({"type": "ipv5"}, "type"),
        ({"type": None}, "type"),
        ({"location": None}, "location"),
        ({"location": "moon"}, "location"),
        ({"location": None, "datacenter": "moon-dc1"}, "datacenter"),
        ({"labels": {"-": ""}}, "labels"),
        ({"assignee_id": 4242}, "assignee_id"),
        ({"assignee_type": "cat"}, "assignee_type"),
        ({"auto_delete": "perhaps"}, "auto_delete"),
    ],
)
def test_bad_input_names_its_field_and_leaves_nothing(
    api: Api, change: dict[str, Any], field: str
) -> None:
    body = {"name": "mine", "type": "ipv4", "location": "lab", **change}
    answer = api.post("primary_ips", body)
    assert (answer.status, answer.code, answer.fields) == (422, "invalid_input", [field])
    assert not Address.objects.exists()


def test_old_clients_name_a_datacenter_and_the_type_of_no_assignee(api: Api) -> None:
    create(api, location=None, datacenter="lab-dc1", assignee_type="server")


def test_a_name_is_given_once(api: Api) -> None:
    create(api)
    answer = api.post("primary_ips", {"name": "mine", "type": "ipv4", "location": "lab"})
    assert (answer.status, answer.code) == (409, "uniqueness_error")
    assert answer.error["details"] == {"fields": [{"name": "name"}]}
    assert Address.objects.count() == 1
    other = create(api, "other")
    assert api.put(f"primary_ips/{other['id']}", {"name": "mine"}).code == "uniqueness_error"


def test_an_empty_pool_and_a_full_project_are_told_apart(api: Api, settings: Settings) -> None:
    body = {"name": "mine", "type": "ipv4", "location": "lab"}
    settings.PROJECT_PRIMARY_IPS = 0
    answer = api.post("primary_ips", body)
    assert (answer.status, answer.code) == (403, "resource_limit_exceeded")
    assert answer.error["details"] == {"limits": [{"name": "primary_ip_limit"}]}
    settings.PROJECT_PRIMARY_IPS = 5
    Network.objects.update(excluded=["203.0.113.0/24"])
    answer = api.post("primary_ips", body)
    assert (answer.status, answer.code) == (412, "unavailable")


def test_a_server_over_the_limit_is_refused_whole(
    api: Api, order: dict[str, Any], settings: Settings
) -> None:
    settings.PROJECT_PRIMARY_IPS = 1
    answer = api.post("servers", order)
    assert (answer.status, answer.code) == (403, "resource_limit_exceeded")
    assert not VM.objects.exists()
    assert not Address.objects.exists()


def test_a_protected_ip_stays(api: Api) -> None:
    ip = create(api)
    path = f"primary_ips/{ip['id']}"
    change = f"{path}/actions/change_protection"
    answer = api.post(change, {"delete": True})
    assert answer.json["action"]["resources"] == [{"id": ip["id"], "type": "primary_ip"}]
    assert api.get(path).json["primary_ip"]["protection"] == {"delete": True}
    assert (api.delete(path).status, api.delete(path).code) == (423, "protected")
    # It would be deleted with its server.
    assert api.put(path, {"auto_delete": True}).fields == ["auto_delete"]
    api.post(change, {"delete": False})
    api.put(path, {"auto_delete": True})
    assert api.post(change, {"delete": True}).fields == ["delete"]
    assert api.delete(path).status == 204


def test_an_ip_is_given_to_a_server_that_is_off_and_taken_away(api: Api) -> None:
    ip, server = create(api), off_server(api)
    path = f"primary_ips/{ip['id']}"
    body = {"assignee_id": server, "assignee_type": "server"}
    action = api.post(f"{path}/actions/assign", body).json["action"]
    assert (action["command"], action["status"]) == ("assign_primary_ip", "running")
    assert action["resources"] == [
        {"id": ip["id"], "type": "primary_ip"},
        {"id": server, "type": "server"},
    ]
    shown = api.get(path).json["primary_ip"]
    assert (shown["assignee_id"], shown["assignee_type"]) == (server, "server")
    net = api.get(f"servers/{server}").json["server"]["public_net"]
    assert net["ipv4"] == {
        "id": ip["id"],
        "ip": "203.0.113.1",
        "blocked": False,
        "dns_ptr": "static.1.113.0.203.cumulet.invalid",
    }
    host_says(VM.objects.get())
    assert api.get(f"{path}/actions").json["actions"][0]["status"] == "success"
    assert (api.delete(path).status, api.delete(path).code) == (422, "must_be_unassigned")
    action = api.post(f"{path}/actions/unassign").json["action"]
    assert action["command"] == "unassign_primary_ip"
    host_says(VM.objects.get())
    assert api.get(f"actions/{action['id']}").json["action"]["status"] == "success"
    assert api.get(f"servers/{server}").json["server"]["public_net"]["ipv4"] is None
    # Nothing to do.
    assert api.post(f"{path}/actions/unassign").json["action"]["status"] == "success"
    assert api.delete(path).status == 204
    # Its actions outlive it.
    commands = [one["command"] for one in api.get("primary_ips/actions").json["actions"]]
    assert commands == ["assign_primary_ip", "unassign_primary_ip", "unassign_primary_ip"]


def test_an_ip_is_made_for_a_server(api: Api) -> None:
    server = off_server(api)
    body = {"name": "mine", "type": "ipv6", "assignee_id": server, "assignee_type": "server"}
    answer = api.post("primary_ips", body)
    assert answer.status == 201
    assert answer.json["action"]["command"] == "assign_primary_ip"
    assert answer.json["primary_ip"]["assignee_id"] == server
    again = api.post("primary_ips", {**body, "name": "more"})
    assert (again.status, again.code) == (422, "server_has_ipv6")
    assert Address.objects.count() == 1


def test_what_does_not_fit_is_refused(api: Api, order: dict[str, Any]) -> None:
    first, second = create(api, "first"), create(api, "second")
    server = off_server(api)

    def assign(ip: dict[str, Any], server: int) -> Any:
        body = {"assignee_id": server, "assignee_type": "server"}
        return api.post(f"primary_ips/{ip['id']}/actions/assign", body)

    assign(first, server)
    assert assign(first, server).code == "primary_ip_already_assigned"
    assert assign(second, server).code == "server_has_ipv4"
    busy = running_server(api, {**order, "name": "busy"}, public_net={"enable_ipv4": False})
    assert (assign(second, busy["id"]).status, assign(second, busy["id"]).code) == (
        422,
        "server_not_stopped",
    )
    taken = busy["public_net"]["ipv6"]["id"]
    assert api.post(f"primary_ips/{taken}/actions/unassign").code == "server_not_stopped"
    Network.objects.create(name="moon", location=make.location("moon"), ip_range="198.51.100.0/28")
    far = create(api, "far", location="moon")
    api.post(f"servers/{busy['id']}/actions/poweroff")
    host_says(VM.objects.get(name="busy"))
    assert assign(far, busy["id"]).code == "primary_ip_datacenter_mismatch"
    assert assign(second, 4242).fields == ["assignee_id"]
    assert api.post("primary_ips/4242/actions/assign", {}).status == 404


def test_a_new_server_shows_its_addresses(api: Api, order: dict[str, Any]) -> None:
    net = api.post("servers", order).json["server"]["public_net"]
    four, six = api.get("primary_ips").json["primary_ips"]
    assert net == {
        "ipv4": {
            "id": four["id"],
            "ip": "203.0.113.1",
            "blocked": False,
            "dns_ptr": four["dns_ptr"][0]["dns_ptr"],
        },
        "ipv6": {"id": six["id"], "ip": "2001:db8::/64", "blocked": False, "dns_ptr": []},
        "floating_ips": [],
        "firewalls": [],
        "forwarded_ports": [],
    }
    assert four["auto_delete"]
    assert six["auto_delete"]
    assert four["name"].startswith("primary_ip-")


def test_a_new_server_takes_the_ips_that_are_named(api: Api, order: dict[str, Any]) -> None:
    four, six = create(api, "four"), create(api, "six", type="ipv6")
    create(api, "another")
    server = running_server(api, order, public_net={"ipv4": four["id"], "ipv6": six["id"]})
    assert server["public_net"]["ipv4"]["ip"] == four["ip"]
    assert server["public_net"]["ipv6"]["ip"] == six["ip"]
    api.delete(f"servers/{server['id']}")
    host_says(VM.objects.get())
    left = api.get("primary_ips").json["primary_ips"]
    assert [(ip["name"], ip["assignee_id"]) for ip in left] == [
        ("four", None),
        ("six", None),
        ("another", None),
    ]


def test_ips_that_a_new_server_cannot_have_are_refused_whole(
    api: Api, order: dict[str, Any]
) -> None:
    six = create(api, "six", type="ipv6")
    answer = api.post("servers", {**order, "public_net": {"ipv4": six["id"]}})
    assert (answer.status, answer.code) == (412, "primary_ip_version_mismatch")
    busy = running_server(api, order)["public_net"]["ipv4"]["id"]
    second = {**order, "name": "web-2"}
    answer = api.post("servers", {**second, "public_net": {"ipv4": busy}})
    assert (answer.status, answer.code) == (422, "primary_ip_assigned")
    make.host("far", location=make.location("moon"))
    answer = api.post("servers", {**second, "location": "moon", "public_net": {"ipv6": six["id"]}})
    assert (answer.status, answer.code) == (422, "primary_ip_datacenter_mismatch")
    for net, field in (
        ({"ipv4": 4242}, "public_net.ipv4"),
        ({"enable_ipv6": False, "ipv6": six["id"]}, "public_net.ipv6"),
    ):
        answer = api.post("servers", {**second, "public_net": net})
        assert (answer.status, answer.fields) == (422, [field])
    foreign = api_of(make.project("other"))
    answer = foreign.post("servers", {**order, "public_net": {"ipv6": six["id"]}})
    assert answer.fields == ["public_net.ipv6"]
    assert VM.objects.count() == 1


def test_a_server_names_its_addresses_in_reverse(api: Api, order: dict[str, Any]) -> None:
    server = running_server(api, order)
    change = f"servers/{server['id']}/actions/change_dns_ptr"
    answer = api.post(change, {"ip": "203.0.113.1", "dns_ptr": "web.example.org"})
    assert answer.json["action"]["command"] == "change_dns_ptr"
    assert answer.json["action"]["resources"] == [{"id": server["id"], "type": "server"}]
    api.post(change, {"ip": "2001:db8::1", "dns_ptr": "six.example.org"})
    net = api.get(f"servers/{server['id']}").json["server"]["public_net"]
    assert net["ipv4"]["dns_ptr"] == "web.example.org"
    assert net["ipv6"]["dns_ptr"] == [{"ip": "2001:db8::1", "dns_ptr": "six.example.org"}]
    assert api.post(change, {"ip": "203.0.113.2", "dns_ptr": "x.example.org"}).fields == ["ip"]


def test_a_server_whose_last_address_was_taken_cannot_start(api: Api) -> None:
    server = off_server(api, enable_ipv4=True)
    ip = PrimaryIp.objects.get()
    api.post(f"primary_ips/{ip.pk}/actions/unassign")
    host_says(VM.objects.get())
    answer = api.post(f"servers/{server}/actions/poweron")
    assert (answer.status, answer.code) == (422, "server_has_no_interface")
