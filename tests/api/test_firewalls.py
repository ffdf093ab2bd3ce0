"""Firewalls on the wire, as the contract has them: bodies, answers, actions and every error."""

from __future__ import annotations

from typing import Any

import pytest

from networks.models import Firewall
from tests import factories as make
from tests.api.conftest import Api, api_of, host_says
from tests.api.test_queries import queries_of
from vms.actions import create_vm
from vms.attachments import PublicNet
from vms.models import VM

pytestmark = pytest.mark.django_db

HTTP = {"direction": "in", "protocol": "tcp", "port": "80", "source_ips": ["0.0.0.0/0", "::/0"]}
BY_LABEL = {"type": "label_selector", "label_selector": {"selector": "env=prod"}}


@pytest.fixture
def vm(lab: None) -> VM:
    vm = create_vm(make.project(), make.order(labels={"env": "prod"})).vm
    host_says(vm)
    return vm


@pytest.fixture
def firewall(api: Api) -> int:
    created = api.post("firewalls", {"name": "web", "rules": [HTTP]}).json
    return int(created["firewall"]["id"])


def to(*servers: VM) -> list[dict[str, Any]]:
    return [{"type": "server", "server": {"id": vm.pk}} for vm in servers]


def commands(answer: Any) -> list[tuple[str, str]]:
    return [(action["command"], action["status"]) for action in answer.json["actions"]]


def states(api: Api, vm: VM) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"servers/{vm.pk}").json["server"]["public_net"][
        "firewalls"
    ]
    return found


def test_a_firewall_has_every_key(api: Api, vm: VM) -> None:
    body = {"name": "web", "labels": {"a": "b"}, "rules": [HTTP], "apply_to": [*to(vm), BY_LABEL]}
    answer = api.post("firewalls", body)
    assert answer.status == 201
    assert commands(answer) == [("set_firewall_rules", "success"), ("apply_firewall", "running")]
    firewall = answer.json["firewall"]
    assert firewall.pop("created")
    assert firewall == {
        "id": Firewall.objects.get().pk,
        "name": "web",
        "labels": {"a": "b"},
        "rules": [{**HTTP, "destination_ips": [], "description": None}],
        "applied_to": [*to(vm), {**BY_LABEL, "applied_to_resources": to(vm)}],
    }


def test_a_firewall_needs_a_name_only(api: Api) -> None:
    answer = api.post("firewalls", {"name": "web", "rules": None, "apply_to": None, "labels": {}})
    assert (answer.status, commands(answer)) == (201, [("set_firewall_rules", "success")])
    assert answer.json["firewall"]["rules"] == answer.json["firewall"]["applied_to"] == []


def test_firewalls_are_found_sorted_renamed_and_deleted(api: Api, firewall: int) -> None:
    api.post("firewalls", {"name": "api", "labels": {"tier": "api"}})

    def names(query: str) -> list[str]:
        return [one["name"] for one in api.get(f"firewalls?{query}").json["firewalls"]]

    assert names("sort=name") == ["api", "web"]
    assert names("sort=created:desc") == ["api", "web"]
    assert names("name=web") == names("label_selector=!tier") == ["web"]
    assert names("name=nobody") == []
    changed = api.put(f"firewalls/{firewall}", {"name": "www", "labels": {"a": "b"}}).json
    assert (changed["firewall"]["name"], changed["firewall"]["labels"]) == ("www", {"a": "b"})
    assert api.put(f"firewalls/{firewall}", {}).json == changed
    assert api.delete(f"firewalls/{firewall}").status == 204
    assert api.get(f"firewalls/{firewall}").code == "not_found"


def test_a_server_tells_whether_its_firewalls_are_applied(api: Api, vm: VM, firewall: int) -> None:
    path = f"firewalls/{firewall}/actions"
    answer = api.post(f"{path}/apply_to_resources", {"apply_to": to(vm)})
    assert (answer.status, commands(answer)) == (201, [("apply_firewall", "running")])
    (action,) = answer.json["actions"]
    about = [{"id": vm.pk, "type": "server"}, {"id": firewall, "type": "firewall"}]
    assert action["resources"] == about
    assert states(api, vm) == [{"id": firewall, "status": "pending"}]
    host_says(vm)
    assert states(api, vm) == [{"id": firewall, "status": "applied"}]
    assert api.get(f"actions/{action['id']}").json["action"]["status"] == "success"
    answer = api.post(f"{path}/set_rules", {"rules": []})
    expected = [("set_firewall_rules", "success"), ("apply_firewall", "running")]
    assert commands(answer) == expected
    assert states(api, vm) == [{"id": firewall, "status": "pending"}]
    answer = api.post(f"{path}/remove_from_resources", {"remove_from": to(vm)})
    assert commands(answer) == [("remove_firewall", "running")]
    assert states(api, vm) == []
    listed = api.get(f"{path}?sort=id:desc").json["actions"]
    assert [one["command"] for one in listed] == ["remove_firewall", "apply_firewall",
        "set_firewall_rules", "apply_firewall", "set_firewall_rules"]  # fmt: skip
    assert api.get(f"{path}/{action['id']}").json["action"]["id"] == action["id"]
    assert api.get(f"firewalls/actions/{action['id']}").status == 200


def test_a_change_of_labels_shows_in_its_own_answer(api: Api, vm: VM, firewall: int) -> None:
    api.post(f"firewalls/{firewall}/actions/apply_to_resources", {"apply_to": [BY_LABEL]})
    assert [one["id"] for one in states(api, vm)] == [firewall]
    changed = api.put(f"servers/{vm.pk}", {"labels": {}}).json["server"]
    assert changed["public_net"]["firewalls"] == []
    applied_to = api.get(f"firewalls/{firewall}").json["firewall"]["applied_to"]
    assert applied_to == [{**BY_LABEL, "applied_to_resources": []}]


def test_a_new_server_is_guarded(api: Api, order: dict[str, Any], firewall: int) -> None:
    made = api.post("servers", {**order, "firewalls": [{"firewall": firewall}]}).json["server"]
    assert made["public_net"]["firewalls"] == [{"id": firewall, "status": "pending"}]


BAD_RULE = {**HTTP, "source_ips": ["10.0.0.1/8"]}


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"name": None}, ["name"]),
        ({"name": ""}, ["name"]),
        ({"name": "n" * 129}, ["name"]),
        ({"name": 7}, ["name"]),
        ({"labels": {"a": "-"}}, ["labels"]),
        ({"rules": {}}, ["rules"]),
        ({"rules": [HTTP] * 51}, ["rules"]),
        ({"rules": [HTTP, BAD_RULE]}, ["rules.1.source_ips.0"]),
        ({"rules": [{**HTTP, "port": "90-80"}]}, ["rules.0.port"]),
        ({"rules": [{**BAD_RULE, "port": 80}]}, ["rules.0.port", "rules.0.source_ips.0"]),
        ({"apply_to": {}}, ["apply_to"]),
        ({"apply_to": [{}]}, ["apply_to.0.type"]),
        ({"apply_to": [{"type": "network"}]}, ["apply_to.0.type"]),
        ({"apply_to": [{"type": "server"}]}, ["apply_to.0.server"]),
        ({"apply_to": [{"type": "server", "server": {"id": 2**70}}]}, ["apply_to.0.server.id"]),
        ({"apply_to": [{"type": "label_selector"}]}, ["apply_to.0.label_selector"]),
        (
            {"apply_to": [{"type": "label_selector", "label_selector": {"selector": "a b"}}]},
            ["label_selector"],
        ),
        (
            {"apply_to": [{"type": "label_selector", "label_selector": {"selector": " "}}]},
            ["label_selector"],
        ),
    ],
)  # fmt: skip
def test_bad_input_names_its_field_and_leaves_nothing(
    api: Api, change: dict[str, Any], fields: list[str]
) -> None:
    answer = api.post("firewalls", {"name": "web", **change})
    assert (answer.status, answer.code, answer.fields) == (422, "invalid_input", fields)
    assert not Firewall.objects.exists()


def test_every_refusal_has_the_code_of_the_contract(api: Api, vm: VM, firewall: int) -> None:
    nowhere = PublicNet(ipv4=False, ipv6=False)
    dark = create_vm(make.project(), make.order("dark", start=False, public_net=nowhere)).vm
    other = create_vm(make.project("other"), make.order("theirs")).vm
    path = f"firewalls/{firewall}/actions"
    apply, remove = f"{path}/apply_to_resources", f"{path}/remove_from_resources"

    def refused(path: str, body: Any) -> tuple[int, str | None]:
        answer = api.post(path, body)
        return answer.status, answer.code

    missing = (404, "firewall_resource_not_found")
    assert refused(apply, {"apply_to": to(other)}) == missing
    assert refused(remove, {"remove_from": to(other)}) == missing
    new = {"name": "new", "apply_to": to(other)}
    assert refused("firewalls", new) == (422, "firewall_resource_not_found")
    assert refused(apply, {"apply_to": to(dark)}) == (422, "private_net_only_server")
    twice = {"name": "new", "apply_to": to(vm, vm)}
    assert refused("firewalls", twice) == (422, "server_already_added")
    assert refused("firewalls", {"name": "web"}) == (409, "uniqueness_error")
    assert not Firewall.objects.filter(name="new").exists()

    assert api.post(apply, {"apply_to": [BY_LABEL]}).status == 201
    assert refused(apply, {"apply_to": [BY_LABEL]}) == (422, "firewall_already_applied")
    managed = (422, "firewall_managed_by_label_selector")
    assert refused(remove, {"remove_from": to(vm)}) == managed
    assert api.post(apply, {"apply_to": to(vm)}).status == 201
    assert refused(apply, {"apply_to": to(vm)}) == (422, "firewall_already_applied")
    answer = api.delete(f"firewalls/{firewall}")
    assert (answer.status, answer.code) == (422, "resource_in_use")
    assert "is still in use" in answer.error["message"]


def test_a_sixth_firewall_exceeds_the_limit(api: Api, order: dict[str, Any]) -> None:
    made = [api.post("firewalls", {"name": f"fw-{n}"}).json["firewall"]["id"] for n in range(6)]
    body = {**order, "firewalls": [{"firewall": pk} for pk in made]}
    answer = api.post("servers", body)
    assert (answer.status, answer.code) == (403, "resource_limit_exceeded")
    assert answer.error["details"] == {"limits": [{"name": "firewalls"}]}
    assert not VM.objects.exists()


def test_a_firewall_of_another_project_is_not_there(api: Api, firewall: int) -> None:
    stranger = api_of(make.project("other"))
    assert stranger.get(f"firewalls/{firewall}").status == 404
    assert stranger.delete(f"firewalls/{firewall}").status == 404
    assert stranger.get("firewalls").json["firewalls"] == []
    assert stranger.get(f"firewalls/{firewall}/actions").status == 404
    order = {"name": "web-1", "server_type": "nano", "image": "micro"}
    body = {**order, "firewalls": [{"firewall": firewall}]}
    assert stranger.post("servers", body).fields == ["firewalls"]


def test_a_key_makes_a_change_happen_once(api: Api, vm: VM, firewall: int) -> None:
    path = f"firewalls/{firewall}/actions/apply_to_resources"
    key = {"Idempotency-Key": "one"}
    first = api.post(path, {"apply_to": to(vm)}, **key)
    assert api.post(path, {"apply_to": to(vm)}, **key).json == first.json
    vm.refresh_from_db()
    assert vm.generation == 2


@pytest.mark.parametrize("path", ["firewalls", "servers"])
def test_a_list_takes_as_many_queries_for_many_as_for_few(api: Api, path: str) -> None:
    make.host("h2", disk_gb=1000)
    make.pool("203.0.113.64/26")

    def fill(first: int, last: int) -> None:
        for number in range(first, last):
            vm = create_vm(make.project(), make.order(f"web-{number}", labels={"env": "prod"})).vm
            apply_to = [*to(vm), BY_LABEL] if number < 4 else to(vm)
            body = {"name": f"fw-{number}", "rules": [HTTP], "apply_to": apply_to}
            assert api.post("firewalls", body).status == 201

    fill(0, 2)
    few = queries_of(api, path)
    fill(2, 10)
    assert queries_of(api, path) == few
