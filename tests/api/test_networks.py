"""Private networks at the API: the contract's answers, limits and refusals."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from cloud.hosts import revoke_host
from cloud.models import Host, Project
from networks.models import PrivateNetwork
from tests import factories as make
from tests.api.conftest import Answer, Api, api_of, host_says
from tests.db import mesh
from vms.models import VM

pytestmark = pytest.mark.django_db

CLOUD = {"type": "cloud", "network_zone": "local"}
BODY = {"name": "backend", "ip_range": "10.0.0.0/16", "subnets": [CLOUD]}


@pytest.fixture(autouse=True)
def in_mesh(lab: None) -> None:
    Host.objects.update(**mesh.facts(1), memory_mb=2**20, disk_gb=1000, cores=100)


@pytest.fixture
def network(api: Api) -> int:
    number: int = api.post("networks", BODY).json["network"]["id"]
    return number


@pytest.fixture
def server(api: Api, order: dict[str, Any]) -> int:
    number: int = api.post("servers", order).json["server"]["id"]
    host_says(VM.objects.get(pk=number))
    return number


def act(api: Api, path: str, command: str, **body: Any) -> Answer:
    return api.post(f"{path}/actions/{command}", body)


def test_a_network_has_every_key_of_the_contract(api: Api) -> None:
    answer = api.post("networks", {**BODY, "labels": {"env": "prod"}})
    assert answer.status == 201
    assert set(answer.json) == {"network"}
    shown = answer.json["network"]
    created = shown.pop("created")
    assert created
    assert shown == {
        "id": PrivateNetwork.objects.get().pk,
        "name": "backend",
        "ip_range": "10.0.0.0/16",
        "subnets": [
            {
                "type": "cloud",
                "ip_range": "10.0.0.0/24",
                "network_zone": "local",
                "gateway": "10.0.0.1",
                "vswitch_id": None,
            }
        ],
        "routes": [],
        "servers": [],
        "load_balancers": [],
        "expose_routes_to_vswitch": False,
        "egress": False,
        "protection": {"delete": False},
        "labels": {"env": "prod"},
    }


def test_networks_are_found_by_name_and_label_and_changed(api: Api, network: int) -> None:
    path = f"networks/{network}"
    changed = api.put(
        path, {"name": "back", "labels": {"a": "b"}, "expose_routes_to_vswitch": True}
    )
    assert changed.json["network"]["expose_routes_to_vswitch"]
    assert api.put(path, {}).json["network"]["name"] == "back"
    assert api.put(path, {"egress": True}).json["network"]["egress"]
    for query in ("name=back", "label_selector=a%3Db", "sort=name:desc"):
        assert [one["id"] for one in api.get(f"networks?{query}").json["networks"]] == [network]
    assert api.get("networks?name=backend").json["networks"] == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"ip_range": "10.0.0.0/25"}, "ip_range"),  # too small
        ({"ip_range": "10.0.0.1/16"}, "ip_range"),  # host bits
        ({"ip_range": "10.0.0.0"}, "ip_range"),
        ({"ip_range": "8.8.0.0/16"}, "ip_range"),  # public
        ({"ip_range": "10.0.0.0/7"}, "ip_range"),  # wider than what is private
        ({"ip_range": "0.0.0.0/0"}, "ip_range"),
        ({"ip_range": "fd00::/64"}, "ip_range"),
        ({"labels": {"a": "-"}}, "labels"),
        ({"subnets": [{**CLOUD, "ip_range": "10.1.0.0/24"}]}, "ip_range"),  # outside
        ({"subnets": [{**CLOUD, "ip_range": "10.0.0.0/31"}]}, "ip_range"),  # too small
        ({"subnets": [{**CLOUD, "ip_range": f"10.0.0.0/{n}"} for n in (24, 25)]}, "ip_range"),
        ({"subnets": [{**CLOUD, "network_zone": "eu-central"}]}, "network_zone"),
        ({"subnets": [{**CLOUD, "type": "tree"}]}, "subnets.0.type"),
        ({"routes": [{"destination": "8.8.8.0/24", "gateway": "10.0.0.2"}]}, "destination"),
        ({"routes": [{"destination": "10.0.0.0/25", "gateway": "10.0.0.2"}]}, "destination"),
        ({"routes": [{"destination": "10.2.0.0/24", "gateway": "10.0.0.1"}]}, "gateway"),
        ({"routes": [{"destination": "10.2.0.0/24", "gateway": "10.7.0.2"}]}, "gateway"),
        ({"routes": [{"destination": "10.0.9.0/24", "gateway": "10.0.9.2"}]}, "gateway"),  # loop
    ],
)
def test_a_network_that_cannot_be_is_refused_and_leaves_nothing(
    api: Api, change: dict[str, Any], field: str
) -> None:
    answer = api.post("networks", {**BODY, **change})
    assert (answer.status, answer.code) == (422, "invalid_input")
    assert answer.fields == [field]
    assert not PrivateNetwork.objects.exists()


def test_vswitches_are_not_offered(api: Api, network: int) -> None:
    subnet = {**CLOUD, "type": "vswitch", "vswitch_id": 1}
    answer = act(api, f"networks/{network}", "add_subnet", **subnet)
    assert (answer.status, answer.code) == (422, "unsupported_error")


def test_names_are_unique_in_a_project_and_ranges_are_not(api: Api, network: int) -> None:
    again = api.post("networks", BODY)
    assert (again.status, again.code) == (409, "uniqueness_error")
    other = api.post("networks", {**BODY, "name": "twin"})
    assert other.status == 201
    renamed = api.put(f"networks/{other.json['network']['id']}", {"name": "backend"})
    assert renamed.code == "uniqueness_error"


def test_a_project_has_only_so_many_networks(api: Api, network: int, settings: Any) -> None:
    settings.PROJECT_NETWORKS = 1
    answer = api.post("networks", {**BODY, "name": "more"})
    assert (answer.status, answer.code) == (403, "resource_limit_exceeded")


def test_subnets_and_routes_come_and_go(api: Api, network: int) -> None:
    path = f"networks/{network}"
    added = act(api, path, "add_subnet", **CLOUD)
    assert added.status == 201
    action = added.json["action"]
    assert (action["command"], action["status"]) == ("add_subnet", "success")
    assert action["resources"] == [{"id": network, "type": "network"}]
    route = {"destination": "10.0.9.0/24", "gateway": "10.0.1.5"}
    assert act(api, path, "add_route", **route).status == 201
    shown = api.get(path).json["network"]
    assert [one["ip_range"] for one in shown["subnets"]] == ["10.0.0.0/24", "10.0.1.0/24"]
    assert shown["routes"] == [route]
    assert act(api, path, "add_route", **route).fields == ["destination"]
    over = act(api, path, "add_subnet", **CLOUD, ip_range="10.0.8.0/22")
    assert over.fields == ["ip_range"]
    assert act(api, path, "delete_route", **{**route, "gateway": "10.0.1.6"}).status == 422
    assert act(api, path, "delete_route", **route).status == 201
    assert act(api, path, "delete_subnet", ip_range="10.0.1.0/24").status == 201
    assert act(api, path, "delete_subnet", ip_range="10.0.1.0/24").fields == ["ip_range"]
    commands = [one["command"] for one in api.get(f"{path}/actions?sort=id").json["actions"]]
    assert commands == ["add_subnet", "add_route", "delete_route", "delete_subnet"]


def test_routes_in_a_circle_are_refused(api: Api, network: int) -> None:
    path = f"networks/{network}"
    first = {"destination": "10.0.8.0/24", "gateway": "10.0.9.5"}
    assert act(api, path, "add_route", **first).status == 201
    answer = act(api, path, "add_route", destination="10.0.9.0/24", gateway="10.0.8.5")
    assert (answer.code, answer.fields) == ("invalid_input", ["gateway"])
    assert "loop" in answer.error["message"]


@pytest.mark.parametrize("ip_range", ["10.0.0.0/17", "10.0.0.0/7", "172.16.0.0/12", "10.1.0.0/16"])
def test_a_range_is_only_widened_from_its_start(api: Api, network: int, ip_range: str) -> None:
    answer = act(api, f"networks/{network}", "change_ip_range", ip_range=ip_range)
    assert (answer.code, answer.fields) == ("invalid_input", ["ip_range"])


def test_a_range_can_be_widened(api: Api, network: int) -> None:
    act(api, f"networks/{network}", "change_ip_range", ip_range="10.0.0.0/12")
    assert api.get(f"networks/{network}").json["network"]["ip_range"] == "10.0.0.0/12"


def test_a_server_shows_its_networks_and_they_show_it(
    api: Api, network: int, order: dict[str, Any]
) -> None:
    made = api.post("servers", {**order, "networks": [network]}).json
    (private,) = made["server"]["private_net"]
    mac = private.pop("mac_address")
    assert private == {"network": network, "ip": "10.0.0.2", "alias_ips": []}
    commands = [action["command"] for action in made["next_actions"]]
    assert commands == ["attach_to_network", "start_server"]
    number = made["server"]["id"]
    assert api.get(f"networks/{network}").json["network"]["servers"] == [number]
    nic = api_of(make.project(), operator=True).get(f"hosts/{Host.objects.get().pk}/nics")
    private_nic = nic.json["nics"][1]
    assert (private_nic["mac"], private_nic["mode"]) == (mac, "private")
    assert private_nic["addresses"] == ["10.0.0.2"]


def test_a_server_with_a_network_alone_can_start(
    api: Api, network: int, order: dict[str, Any]
) -> None:
    nothing = {**order, "public_net": {"enable_ipv4": False, "enable_ipv6": False}}
    assert api.post("servers", nothing).fields == ["public_net"]
    made = api.post("servers", {**nothing, "start_after_create": False}).json["server"]["id"]
    host_says(VM.objects.get(pk=made))
    assert act(api, f"servers/{made}", "poweron").code == "server_has_no_interface"
    attached = act(api, f"servers/{made}", "attach_to_network", network=network)
    assert attached.status == 201
    assert act(api, f"servers/{made}", "poweron").status == 201
    assert api.post("servers", {**nothing, "name": "two", "networks": [network]}).status == 201


def test_a_server_is_attached_changed_and_detached(api: Api, network: int, server: int) -> None:
    path = f"servers/{server}"
    body = {"network": network, "ip": "10.0.0.77", "alias_ips": ["10.0.0.78"]}
    attached = act(api, path, "attach_to_network", **body)
    assert attached.status == 201
    assert attached.json["action"]["command"] == "attach_to_network"
    assert {one["type"] for one in attached.json["action"]["resources"]} == {"server", "network"}
    (member,) = api.get(f"networks/{network}/members").json["members"]
    assert member == {
        "id": server,
        "type": "server",
        "ip": "10.0.0.77",
        "alias_ips": ["10.0.0.78"],
        "subnet": "10.0.0.0/24",
        "status": "attaching",
    }
    host_says(VM.objects.get())
    act(api, path, "change_alias_ips", network=network, alias_ips=["10.0.0.80", "10.0.0.79"])
    (member,) = api.get(f"networks/{network}/members").json["members"]
    assert (member["alias_ips"], member["status"]) == (["10.0.0.80", "10.0.0.79"], "updating")
    host_says(VM.objects.get())
    assert api.get(f"networks/{network}/members").json["members"][0]["status"] == "ok"
    detached = act(api, path, "detach_from_network", network=network)
    assert detached.json["action"]["command"] == "detach_from_network"
    assert api.get(path).json["server"]["private_net"] == []
    assert act(api, path, "detach_from_network", network=network).fields == ["network"]
    assert act(api, path, "change_alias_ips", network=network, alias_ips=[]).fields == ["network"]


def test_members_are_filtered_sorted_and_paged(
    api: Api, network: int, order: dict[str, Any]
) -> None:
    act(api, f"networks/{network}", "add_subnet", **CLOUD)
    numbers = [
        api.post("servers", {**order, "name": f"web-{n}", "networks": [network]}).json["server"][
            "id"
        ]
        for n in range(2)
    ]
    last = api.post("servers", {**order, "name": "db-1"}).json["server"]["id"]
    host_says(VM.objects.get(pk=last))
    chosen = {"network": network, "ip_range": "10.0.1.0/24"}
    assert act(api, f"servers/{last}", "attach_to_network", **chosen).status == 201

    def ids(query: str) -> list[int]:
        answer = api.get(f"networks/{network}/members?{query}")
        return [member["id"] for member in answer.json["members"]]

    assert ids("sort=id:desc") == [last, *reversed(numbers)]
    assert ids("sort=ip:desc")[0] == last
    assert ids("sort=type&sort=status:asc")
    assert ids("subnet=10.0.1.0/24") == [last]
    assert ids("type=load_balancer") == []
    assert ids("status=ok") == []
    assert ids("status=attaching&type=server") == [*numbers, last]
    assert ids("per_page=1&page=2") == [numbers[1]]
    assert api.get(f"networks/{network}/members?sort=mac").code == "invalid_input"
    assert api.get("networks/4242/members").status == 404


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"ip": "10.0.0.1"}, "ip_not_available"),
        ({"ip": "10.0.0.255"}, "ip_not_available"),
        ({"ip": "10.0.1.7"}, "ip_not_available"),
        ({"ip": "10.0.0.7", "ip_range": "10.0.1.0/24"}, "invalid_input"),
        ({"ip_range": "10.0.3.0/24"}, "invalid_input"),
        ({"ip": "ten"}, "invalid_input"),
        ({"ip": 10}, "invalid_input"),
        ({"alias_ips": "10.0.0.7"}, "invalid_input"),
        ({"alias_ips": ["10.0.0.1"]}, "ip_not_available"),
        ({"alias_ips": ["10.0.0.9", "10.0.0.9"]}, "ip_not_available"),
        ({"network": 4242}, "invalid_input"),
    ],
)
def test_what_cannot_be_attached_is_refused(
    api: Api, network: int, server: int, body: dict[str, Any], code: str
) -> None:
    act(api, f"networks/{network}", "add_subnet", **CLOUD, ip_range="10.0.2.0/24")
    answer = act(api, f"servers/{server}", "attach_to_network", **{"network": network, **body})
    assert (answer.status, answer.code) == (422, code)
    assert api.get(f"networks/{network}").json["network"]["servers"] == []


def test_attaching_twice_overlapping_or_without_a_subnet_has_codes_of_its_own(
    api: Api, network: int, server: int
) -> None:
    path = f"servers/{server}"
    bare = api.post("networks", {**BODY, "name": "bare", "subnets": []}).json["network"]["id"]
    assert act(api, path, "attach_to_network", network=bare).code == "no_subnet_available"
    twin = api.post("networks", {**BODY, "name": "twin"}).json["network"]["id"]
    act(api, path, "attach_to_network", network=network)
    assert act(api, path, "attach_to_network", network=network).code == "server_already_attached"
    assert act(api, path, "attach_to_network", network=twin).code == "networks_overlap"


def test_a_subnet_in_use_says_so_in_the_words_that_clients_look_for(
    api: Api, network: int, server: int
) -> None:
    act(api, f"servers/{server}", "attach_to_network", network=network)
    answer = act(api, f"networks/{network}", "delete_subnet", ip_range="10.0.0.0/24")
    assert (answer.status, answer.code) == (422, "service_error")
    assert "servers are attached" in answer.error["message"]


def test_a_protected_network_stays_and_an_unprotected_one_detaches_its_servers(
    api: Api, network: int, server: int
) -> None:
    path = f"networks/{network}"
    act(api, f"servers/{server}", "attach_to_network", network=network)
    act(api, path, "change_protection", delete=True)
    assert api.get(path).json["network"]["protection"] == {"delete": True}
    refused = api.delete(path)
    assert (refused.status, refused.code) == (423, "protected")
    act(api, path, "change_protection", delete=False)
    assert api.delete(path).status == 204
    assert api.get(path).status == api.delete(path).status == 404
    assert api.get("networks").json["networks"] == []
    assert api.get(f"servers/{server}").json["server"]["private_net"] == []
    (detaching, *_) = api.get(f"{path}/actions?sort=id:desc").json["actions"]
    assert detaching["command"] == "detach_from_network"


def test_another_projects_network_does_not_exist(api: Api, network: int, server: int) -> None:
    stranger = api_of(Project.objects.create(name="stranger"))
    assert stranger.get(f"networks/{network}").status == 404
    assert stranger.get(f"networks/{network}/members").status == 404
    assert stranger.get(f"networks/{network}/actions").status == 404
    theirs = stranger.post("networks", BODY).json["network"]["id"]
    answer = act(api, f"servers/{server}", "attach_to_network", network=theirs)
    assert (answer.code, answer.fields) == ("invalid_input", ["network"])


def test_a_network_to_which_nothing_was_done_lists_no_actions(api: Api, network: int) -> None:
    assert api.get(f"networks/{network}/actions").json["actions"] == []
    assert api.get("networks/4242/actions").status == 404


def test_operators_see_which_hosts_are_in_the_mesh(api: Api) -> None:
    operator = api_of(make.project(), operator=True)
    (shown,) = operator.get("hosts").json["hosts"]
    assert (shown["status"], shown["in_mesh"], shown["tunnel_ip"]) == ("up", True, "100.64.0.2")
    with transaction.atomic():
        revoke_host(Host.objects.get())
    (shown,) = operator.get("hosts").json["hosts"]
    assert (shown["status"], shown["in_mesh"]) == ("revoked", False)
