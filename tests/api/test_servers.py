"""Servers through the API: ordering, changing, switching, deleting."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from cloud.models import Host
from cloud.wire import Failure
from networks.models import Address, Network
from networks.spec import NicReport
from tests import factories as make
from tests.api.conftest import Api, host_says
from vms.models import VM, Image


@pytest.fixture
def key(api: Api) -> int:
    answer = api.post("ssh_keys", {"name": "mine", "public_key": make.SSH_KEY})
    return int(answer.json["ssh_key"]["id"])


@pytest.fixture
def server(api: Api, order: dict[str, Any], key: int) -> int:
    """A running server."""
    answer = api.post("servers", {**order, "ssh_keys": [key]})
    host_says(VM.objects.get())
    return int(answer.json["server"]["id"])


def test_a_new_server_has_its_final_address_and_two_actions(
    api: Api, order: dict[str, Any], key: int
) -> None:
    answer = api.post("servers", {**order, "ssh_keys": [key], "labels": {"env": "test"}})
    assert answer.status == 201
    assert set(answer.json) == {"server", "action", "next_actions", "root_password"}
    server = answer.json["server"]
    assert (server["status"], server["locked"]) == ("initializing", True)
    assert server["labels"] == {"env": "test"}
    assert server["public_net"]["ipv4"]["ip"] == "203.0.113.1"
    assert server["public_net"]["ipv4"]["dns_ptr"]
    assert server["public_net"]["ipv6"] is None
    assert server["datacenter"]["location"] == server["location"]
    assert answer.json["action"]["command"] == "create_server"
    assert answer.json["action"]["resources"] == [{"id": server["id"], "type": "server"}]
    assert answer.json["action"]["error"] is None
    assert [action["command"] for action in answer.json["next_actions"]] == ["start_server"]
    assert answer.json["root_password"] is None

    host_says(VM.objects.get())
    server = api.get(f"servers/{server['id']}").json["server"]
    assert (server["status"], server["locked"]) == ("running", False)
    for action in (answer.json["action"], *answer.json["next_actions"]):
        shown = api.get(f"actions/{action['id']}").json["action"]
        assert (shown["status"], shown["progress"]) == ("success", 100)
        assert shown["finished"]


def test_without_a_key_a_root_password_is_told_once(api: Api, order: dict[str, Any]) -> None:
    answer = api.post("servers", order)
    assert len(answer.json["root_password"]) >= 16
    assert "root_password" not in api.get(f"servers/{answer.json['server']['id']}").json["server"]


def test_the_request_id_is_on_the_actions_it_caused(api: Api, order: dict[str, Any]) -> None:
    answer = api.post("servers", order, **{"X-Request-ID": "order-1"})
    assert answer.json["action"]["request_id"] == "order-1"
    assert answer.json["next_actions"][0]["request_id"] == "order-1"


def test_everything_can_be_named_by_id_by_digits_or_by_name(
    api: Api, order: dict[str, Any], key: int
) -> None:
    image, size, place = Image.objects.get().pk, make.server_type().pk, make.location().pk
    for number, (image_, size_, place_, key_) in enumerate(
        [(image, size, place, key), (str(image), str(size), str(place), str(key)),
         ("micro", "nano", "lab", "mine")]
    ):  # fmt: skip
        body = {"name": f"web-{number}", "image": image_, "server_type": size_, "location": place_}
        answer = api.post("servers", {**body, "ssh_keys": [key_]})
        assert answer.status == 201, answer.json
        assert answer.json["server"]["image"]["id"] == image


def test_a_name_of_digits_is_found_when_no_id_matches(api: Api, order: dict[str, Any]) -> None:
    make.server_type("4242")
    assert api.post("servers", {**order, "server_type": "4242"}).status == 201


@pytest.mark.parametrize("datacenter", ["lab-dc1", "lab-dc14", "lab"])
def test_an_old_client_may_name_a_datacenter(
    api: Api, order: dict[str, Any], datacenter: str
) -> None:
    answer = api.post("servers", {**order, "datacenter": datacenter})
    assert answer.json["server"]["location"]["name"] == "lab"


def test_explicit_nulls_mean_omitted(api: Api, order: dict[str, Any]) -> None:
    nothing = dict.fromkeys(
        ["location", "datacenter", "ssh_keys", "user_data", "labels", "volumes", "networks",
         "firewalls", "placement_group", "automount", "start_after_create"]
    )  # fmt: skip
    network = {"enable_ipv4": None, "enable_ipv6": None, "ipv4": None, "ipv6": None}
    answer = api.post("servers", {**order, **nothing, "public_net": network})
    assert answer.status == 201
    assert answer.json["next_actions"]


def test_what_hcloud_sends_empty_is_taken(api: Api, order: dict[str, Any]) -> None:
    empty = {"volumes": [], "networks": [], "firewalls": [], "ssh_keys": [], "labels": {},
             "user_data": "", "automount": False}  # fmt: skip
    assert api.post("servers", {**order, **empty}).status == 201


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "not_a_hostname"}, "name"),
        ({"name": "-web"}, "name"),
        ({"name": "a" * 64}, "name"),
        ({"name": 5}, "name"),
        ({"name": ["web"]}, "name"),
        ({"server_type": "huge"}, "server_type"),
        ({"server_type": None}, "server_type"),
        ({"server_type": True}, "server_type"),
        ({"server_type": {}}, "server_type"),
        ({"image": "windows"}, "image"),
        ({"image": 4242}, "image"),
        ({"image": "micro\x00"}, "image"),
        ({"image": 10**30}, "image"),
        ({"location": "moon"}, "location"),
        ({"datacenter": "moon-dc1"}, "datacenter"),
        ({"location": "lab", "datacenter": "lab-dc1"}, "datacenter"),
        ({"ssh_keys": ["nobody"]}, "ssh_keys"),
        ({"ssh_keys": "nobody"}, "ssh_keys"),
        ({"labels": {"a": "-"}}, "labels"),
        ({"labels": []}, "labels"),
        ({"user_data": "ä" * 16385}, "user_data"),
        ({"user_data": "\x00"}, "user_data"),
        ({"start_after_create": "perhaps"}, "start_after_create"),
        ({"public_net": {"enable_ipv4": False}}, "public_net"),
        ({"public_net": {"ipv4": 1}}, "public_net.ipv4"),
        ({"volumes": [1]}, "volumes"),
        ({"networks": [1]}, "networks"),
        ({"firewalls": [{"firewall": 1}]}, "firewalls"),
        ({"placement_group": 1}, "placement_group"),
    ],
)
def test_bad_input_names_its_field_and_leaves_nothing(
    api: Api, order: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    answer = api.post("servers", {**order, **change})
    assert (answer.status, answer.code) == (422, "invalid_input")
    assert answer.fields == [field]
    assert not VM.objects.exists()
    assert not Address.objects.exists()
    assert api.get("actions").json["actions"] == []


def test_several_faults_are_told_together(api: Api) -> None:
    assert api.post("servers", {}).fields == ["name", "server_type", "image"]


def test_user_data_is_kept_to_the_byte(api: Api, order: dict[str, Any]) -> None:
    data = "#!/bin/sh\n echo ä \n\n"
    api.post("servers", {**order, "user_data": data})
    assert VM.objects.get().user_data == data


def test_user_data_may_have_exactly_32_kib(api: Api, order: dict[str, Any]) -> None:
    assert api.post("servers", {**order, "user_data": "ä" * 16384}).status == 201


@pytest.mark.parametrize(
    "facts",
    [
        {"status": "creating"},
        {"status": "unavailable", "problem": "checksum differs"},
        {"deleted_at": timezone.now()},
        {"deprecated_at": timezone.now() - timedelta(days=91)},
        {"architecture": "arm"},
    ],
)
def test_an_image_that_cannot_be_used_is_refused(
    api: Api, order: dict[str, Any], facts: dict[str, Any]
) -> None:
    image = make.image("other", sha256="cd" * 32, **facts)
    for reference in (image.pk, image.name):
        answer = api.post("servers", {**order, "image": reference})
        assert (answer.status, answer.fields) == (422, ["image"])


def test_an_image_on_its_way_is_to_be_waited_for(api: Api, order: dict[str, Any]) -> None:
    make.image("other", sha256="cd" * 32, status="creating")
    refused = api.post("servers", {**order, "image": "other"})
    assert "other is creating: wait until a host has it" in refused.error["message"]


def test_who_errs_in_a_short_list_is_told_what_there_is(api: Api, order: dict[str, Any]) -> None:
    for field, there in (("server_type", make.server_type()), ("location", make.location())):
        refused = api.post("servers", {**order, field: "huge"})
        assert f"'huge' not found: choose one of {there}" in refused.error["message"]


def test_a_size_past_its_deprecation_is_refused(api: Api, order: dict[str, Any]) -> None:
    make.server_type("old", deprecated_at=timezone.now() - timedelta(days=91))
    assert api.post("servers", {**order, "server_type": "old"}).fields == ["server_type"]


def test_a_name_is_given_once_until_its_server_is_deleted(
    api: Api, order: dict[str, Any], server: int
) -> None:
    answer = api.post("servers", order)
    assert (answer.status, answer.code) == (409, "uniqueness_error")
    assert answer.error["details"] == {"fields": [{"name": "name"}]}
    api.delete(f"servers/{server}")
    successor = api.post("servers", order).json["server"]["id"]
    # Clients that look a name up take the first hit.
    found = [found["id"] for found in api.get("servers?name=web-1").json["servers"]]
    assert found == [successor, server]


def test_no_room_is_told_for_every_host(api: Api, order: dict[str, Any]) -> None:
    make.server_type("giant", memory_mb=1_000_000)
    answer = api.post("servers", {**order, "server_type": "giant"})
    assert (answer.status, answer.code) == (412, "resource_unavailable")
    assert "error during placement" in answer.error["message"]
    assert "h1" in answer.error["message"]


def test_no_address_is_told_and_nothing_is_kept(api: Api, order: dict[str, Any]) -> None:
    Network.objects.update(excluded=[f"203.0.113.{last}" for last in range(16)])
    answer = api.post("servers", order)
    assert (answer.status, answer.code) == (412, "resource_unavailable")
    assert not VM.objects.exists()


def test_only_the_keys_sent_are_changed(api: Api, server: int) -> None:
    path = f"servers/{server}"
    before = api.put(path, {"labels": {"a": "1", "b": "2"}}).json["server"]
    assert api.put(path, {}).json["server"] == before
    renamed = api.put(path, {"name": "renamed"}).json["server"]
    assert (renamed["name"], renamed["labels"]) == ("renamed", {"a": "1", "b": "2"})
    assert api.put(path, {"labels": {"c": "3"}}).json["server"]["labels"] == {"c": "3"}
    assert api.put(path, {"labels": {}, "name": None}).json["server"]["labels"] == {}
    assert api.put(path, {"name": "not_a_hostname"}).fields == ["name"]


def test_lists_are_filtered_by_name_status_and_labels(
    api: Api, order: dict[str, Any], server: int
) -> None:
    api.put(f"servers/{server}", {"labels": {"env": "prod", "tier": "web"}})
    api.post("servers", {**order, "name": "db-1", "labels": {"env": "prod"}})
    api.post("servers", {**order, "name": "test-1"})

    def names(query: str) -> list[str]:
        return [found["name"] for found in api.get(f"servers?{query}").json["servers"]]

    assert names("name=db-1") == ["db-1"]
    assert names("name=DB-1") == names("name=db") == names("name=%20db-1") == []
    assert names("status=running") == ["web-1"]
    assert names("status=running&status=initializing") == ["web-1", "db-1", "test-1"]
    assert names("status=off") == []
    # What is no status is ignored: a client is known to send such.
    assert names("status=50") == ["web-1", "db-1", "test-1"]
    assert names("label_selector=env%3Dprod") == ["web-1", "db-1"]
    assert names("label_selector=env%3Dprod,!tier") == ["db-1"]
    assert names("label_selector=!env") == ["test-1"]
    assert names("label_selector=env%20in%20(prod,dev)&status=running") == ["web-1"]
    assert names("label_selector=tier!%3Dweb") == ["db-1", "test-1"]


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("poweron", "start_server"),
        ("poweroff", "stop_server"),
        ("shutdown", "shutdown_server"),
        ("reboot", "reboot_server"),
        ("reset", "reset_server"),
    ],
)
def test_power_commands_open_an_action(api: Api, server: int, path: str, command: str) -> None:
    answer = api.post(f"servers/{server}/actions/{path}")
    assert answer.status == 201
    assert answer.json["action"]["command"] == command
    host_says(VM.objects.get())
    listed = api.get(f"servers/{server}/actions?sort=id:desc&per_page=1").json["actions"][0]
    assert (listed["id"], listed["status"]) == (answer.json["action"]["id"], "success")


def test_a_server_being_made_is_locked(api: Api, order: dict[str, Any]) -> None:
    server = api.post("servers", order).json["server"]["id"]
    answer = api.post(f"servers/{server}/actions/poweroff")
    assert (answer.status, answer.code) == (423, "locked")


def test_a_failed_action_tells_why(api: Api, server: int) -> None:
    action = api.post(f"servers/{server}/actions/reset").json["action"]["id"]
    failure = Failure(code="qemu_failed", message="no such device", retryable=False)
    host_says(VM.objects.get(), converged=False, failure=failure)
    shown = api.get(f"actions/{action}").json["action"]
    assert shown["status"] == "error"
    assert shown["error"] == {"code": "qemu_failed", "message": "no such device"}


def test_a_deleted_server_is_gone_when_its_host_proved_it(api: Api, server: int) -> None:
    answer = api.delete(f"servers/{server}")
    assert (answer.status, answer.json["action"]["command"]) == (200, "delete_server")
    shown = api.get(f"servers/{server}").json["server"]
    assert (shown["status"], shown["locked"]) == ("deleting", True)
    assert api.delete(f"servers/{server}").json["action"]["id"] == answer.json["action"]["id"]
    host_says(VM.objects.get())
    assert api.get(f"servers/{server}").status == 404
    # Clients go on asking for the action.
    for path in ("actions", "servers/actions", f"servers/{server}/actions"):
        shown = api.get(f"{path}/{answer.json['action']['id']}").json["action"]
        assert shown["status"] == "success"


def test_a_protected_server_stays(api: Api, server: int) -> None:
    change = f"servers/{server}/actions/change_protection"
    answer = api.post(change, {"delete": True, "rebuild": True})
    assert (answer.status, answer.json["action"]["status"]) == (201, "success")
    assert api.get(f"servers/{server}").json["server"]["protection"] == {
        "delete": True,
        "rebuild": True,
    }
    assert (api.delete(f"servers/{server}").status, api.delete(f"servers/{server}").code) == (
        423,
        "protected",
    )
    assert api.post(change, {"delete": False}).fields == ["rebuild"]
    api.post(change, {"delete": False, "rebuild": False})
    assert api.delete(f"servers/{server}").status == 200


@pytest.mark.parametrize("what", ["rebuild", "attach_iso", "enable_rescue", "request_console"])
def test_what_is_not_offered_yet_is_said_so(api: Api, server: int, what: str) -> None:
    answer = api.post(f"servers/{server}/actions/{what}", {})
    assert (answer.status, answer.code) == (422, "unsupported_error")
    assert api.post(f"servers/4242/actions/{what}", {}).status == 404


def test_a_deleted_image_is_not_shown_at_its_servers(api: Api, server: int) -> None:
    Image.objects.update(deleted_at=timezone.now())
    assert api.get(f"servers/{server}").json["server"]["image"] is None


def test_several_actions_are_told_in_one_answer(
    api: Api, order: dict[str, Any], server: int
) -> None:
    ids = [action["id"] for action in api.get(f"servers/{server}/actions").json["actions"]]
    query = "&".join(f"id={asked}" for asked in [*ids, 4242, "nonsense", 10**30])
    answer = api.get(f"actions?{query}&page=1")
    assert set(answer.json) == {"actions"}
    assert [action["id"] for action in answer.json["actions"]] == ids


def test_actions_are_listed_by_resource_and_status(api: Api, server: int) -> None:
    api.post(f"servers/{server}/actions/poweroff")

    def commands(query: str) -> list[str]:
        return [action["command"] for action in api.get(query).json["actions"]]

    assert commands("servers/actions?status=running") == ["stop_server"]
    assert commands(f"servers/{server}/actions?status=success&sort=command:desc") == [
        "start_server",
        "create_server",
    ]
    assert commands("images/actions") == commands("volumes/actions") == []
    assert api.get("servers/4242/actions").status == 404


def test_an_address_of_the_outside_network_is_shown_once_the_host_saw_it(
    api: Api, order: dict[str, Any]
) -> None:
    Network.objects.update(mode="bridged", dhcp=True)
    Host.objects.update(network_mode="bridged")
    number = api.post("servers", order).json["server"]["id"]
    assert api.get(f"servers/{number}").json["server"]["public_net"]["ipv4"] is None
    host_says(VM.objects.get(), nics=(NicReport(0, ("2001:db8::7", "198.51.100.77")),))
    shown = api.get(f"servers/{number}").json["server"]["public_net"]["ipv4"]
    assert shown == {"id": None, "ip": "198.51.100.77", "blocked": False, "dns_ptr": ""}
