"""What servers are made from, and what this cloud does not have."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.utils import timezone

from cloud import urls
from cloud.admin.hosts import heartbeat
from cloud.models import Host
from cloud.wire import decode, encode
from tests import factories as make
from tests.api.conftest import Api, api_of, host_says
from vms.actions import create_vm
from vms.dispatch import spec_of
from vms.models import Image, ServerType, SshKey
from vms.spec import VmSpec


def fresh_key() -> str:
    public = Ed25519PrivateKey.generate().public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def test_a_location_has_a_datacenter_for_old_clients(api: Api) -> None:
    location = api.get("locations?name=lab").json["locations"][0]
    assert location["network_zone"]
    answer = api.get("datacenters?name=lab-dc1").json
    (datacenter,) = answer["datacenters"]
    assert datacenter["location"] == location
    assert answer["recommendation"] == datacenter["id"]
    size = make.server_type().pk
    assert datacenter["server_types"] == {
        "supported": [size],
        "available": [size],
        "available_for_migration": [size],
    }
    assert api.get(f"datacenters/{datacenter['id']}").json["datacenter"] == datacenter
    assert api.get("datacenters?name=lab").json["datacenters"] == []


def test_a_location_without_an_open_host_offers_nothing(api: Api) -> None:
    Host.objects.update(schedulable=False)
    size = api.get("server_types").json["server_types"][0]
    assert [place["available"] for place in size["locations"]] == [False]
    assert api.get("datacenters").json["datacenters"][0]["server_types"]["available"] == []
    Host.objects.update(schedulable=True, last_heartbeat=timezone.now() - timedelta(hours=1))
    assert not api.get("server_types").json["server_types"][0]["locations"][0]["available"]


def test_a_size_is_shown_in_the_units_of_the_contract(api: Api) -> None:
    make.server_type("big", cores=4, memory_mb=8192, disk_gb=80)
    size = api.get("server_types?name=big").json["server_types"][0]
    assert (size["cores"], size["memory"], size["disk"]) == (4, 8.0, 80)
    assert (size["category"], size["storage_type"]) == ("Shared vCPU", "local")
    assert (size["deprecated"], size["deprecation"], size["prices"]) == (False, None, [])


@pytest.mark.parametrize(("days", "listed"), [(1, True), (91, False)])
def test_a_deprecated_size_is_listed_until_its_notice_is_over(
    api: Api, days: int, listed: bool
) -> None:
    announced = timezone.now() - timedelta(days=days)
    ServerType.objects.update(deprecated_at=announced)
    assert bool(api.get("server_types").json["server_types"]) == listed
    size = api.get(f"server_types/{make.server_type().pk}").json["server_type"]
    assert size["deprecated"]
    assert set(size["deprecation"]) == {"announced", "unavailable_after"}


def test_an_image_is_shown_with_its_sizes(api: Api) -> None:
    Image.objects.update(bytes=3 * 2**29, virtual_bytes=2 * 2**30 + 1)
    image = api.get("images?name=micro&architecture=x86&type=system").json["images"][0]
    assert (image["image_size"], image["disk_size"]) == (1.5, 3.0)
    assert image["protection"] == {"delete": False}
    Image.objects.update(status="creating")
    assert api.get("images").json["images"][0]["image_size"] is None


def test_images_are_filtered(api: Api) -> None:
    make.image("old", sha256="cd" * 32, deprecated_at=timezone.now())
    make.image("arm", sha256="ef" * 32, architecture="arm")

    def names(query: str) -> list[str]:
        return [image["name"] for image in api.get(f"images?{query}").json["images"]]

    assert names("") == ["micro", "arm"]
    assert names("include_deprecated=true") == names("include_deprecated=True")
    assert names("include_deprecated=true") == ["micro", "old", "arm"]
    assert names("architecture=arm") == ["arm"]
    assert names("type=snapshot&type=backup") == names("bound_to=1") == names("status=creating")
    assert names("type=snapshot") == []


def test_images_of_the_cloud_are_nobodys_to_change(api: Api) -> None:
    image = f"images/{Image.objects.get().pk}"
    assert api.put(image, {}).json["image"]["name"] == "micro"
    assert (api.put(image, {"description": ""}).status, api.delete(image).status) == (403, 403)
    assert api.delete(image).code == "forbidden"
    answer = api.post(f"{image}/actions/change_protection", {"delete": True})
    assert answer.code == "unsupported_error"
    assert api.get(f"{image}/actions").json["actions"] == []
    assert api.get("images/4242/actions").status == 404


def test_a_key_is_kept_renamed_and_forgotten(api: Api) -> None:
    answer = api.post("ssh_keys", {"name": "mine", "public_key": make.SSH_KEY, "labels": {}})
    assert answer.status == 201
    key = answer.json["ssh_key"]
    assert set(key) == {"id", "name", "fingerprint", "public_key", "labels", "created"}
    path = f"ssh_keys/{key['id']}"
    assert api.get(f"ssh_keys?fingerprint={key['fingerprint']}").json["ssh_keys"] == [key]
    assert api.put(path, {"name": "ours"}).json["ssh_key"] == {**key, "name": "ours"}
    assert api.put(path, {"labels": {"a": "b"}}).json["ssh_key"]["labels"] == {"a": "b"}
    assert api.get("ssh_keys?label_selector=a").json["ssh_keys"][0]["name"] == "ours"
    assert api.delete(path).status == 204
    assert api.get(path).status == 404


def test_the_comment_of_a_key_may_be_in_any_script(api: Api) -> None:
    body = {"name": "mine", "public_key": f"{make.SSH_KEY} jürgen@büro"}
    assert api.post("ssh_keys", body).status == 201
    vm = make.ordered(ssh_keys=(SshKey.objects.get(),)).vm
    assert decode(encode(spec_of(vm)), VmSpec).ssh_keys == (body["public_key"],)


def test_neither_a_name_nor_a_key_is_kept_twice(api: Api) -> None:
    first = {"name": "one", "public_key": make.SSH_KEY}
    api.post("ssh_keys", first)
    for body, field in (
        ({**first, "name": "two"}, "public_key"),
        ({"name": "one", "public_key": fresh_key()}, "name"),
    ):
        answer = api.post("ssh_keys", body)
        assert (answer.status, answer.code) == (409, "uniqueness_error")
        assert answer.error["details"] == {"fields": [{"name": field}]}
    other = api.post("ssh_keys", {"name": "two", "public_key": fresh_key()}).json["ssh_key"]
    assert api.put(f"ssh_keys/{other['id']}", {"name": "one"}).code == "uniqueness_error"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["name", "public_key"]),
        ({"name": "", "public_key": make.SSH_KEY}, ["name"]),
        ({"name": "n", "public_key": "ssh-rsa nonsense"}, ["public_key"]),
        ({"name": "n", "public_key": f"{make.SSH_KEY}{'x' * 16384}"}, ["public_key"]),
        ({"name": "n", "public_key": make.SSH_KEY + "\n" + make.SSH_KEY}, ["public_key"]),
        ({"name": "n", "public_key": make.SSH_KEY, "labels": {"-": ""}}, ["labels"]),
        ({"name": "n" * 129, "public_key": make.SSH_KEY}, ["name"]),
    ],
)
def test_a_key_that_is_none_is_refused(api: Api, body: dict[str, Any], fields: list[str]) -> None:
    answer = api.post("ssh_keys", body)
    assert (answer.status, answer.fields) == (422, fields)


def test_everything_is_free(api: Api) -> None:
    pricing = api.get("pricing").json["pricing"]
    assert set(pricing) >= {"currency", "vat_rate", "image", "volume", "floating_ip"}
    assert pricing["server_types"] == [{"id": make.server_type().pk, "name": "nano", "prices": []}]
    assert pricing["image"]["price_per_gb_month"]["net"] == "0.0000"


@pytest.mark.parametrize("plural", urls.NOT_OFFERED)
def test_what_this_cloud_lacks_lists_empty_and_refuses_writes(api: Api, plural: str) -> None:
    assert api.get(plural).json[plural] == []
    assert api.get(f"{plural}/1").code == "not_found"
    for method, path in (
        ("POST", plural),
        ("PUT", f"{plural}/1"),
        ("DELETE", f"{plural}/1"),
        ("POST", f"{plural}/1/actions/change_protection"),
    ):
        assert api.ask(method, path, {"name": "x"}).code == "unsupported_error"


def test_hosts_are_for_operators(api: Api) -> None:
    vm = create_vm(make.project(), make.order()).vm
    make.host("h2", last_heartbeat=timezone.now() - timedelta(hours=1))
    make.host("h3", last_heartbeat=None)
    assert api.get("hosts").code == api.get(f"hosts/{vm.host_id}").code == "forbidden"
    operator = api_of(make.project(), operator=True)
    hosts = operator.get("hosts?sort=name").json["hosts"]
    assert [host["status"] for host in hosts] == ["up", "silent", "never_joined"]
    busy = next(host for host in hosts if host["id"] == vm.host_id)
    assert busy["capacity"] == {"cores": 4, "memory_mb": 8192, "disk_gb": 100}
    assert busy["used"] == {"servers": 1, "cores": 1, "memory_mb": 256, "disk_gb": 1}
    assert operator.get(f"hosts/{vm.host_id}").json["host"]["name"] == vm.host.name
    host_says(vm)
    assert operator.get("hosts?name=h1").json["hosts"][0]["location"]["name"] == "lab"


def test_a_host_heard_in_the_future_is_silent_for_all_who_ask(lab: None) -> None:
    """The clock was set back since, so nobody knows whether it speaks."""
    now = timezone.now()
    host = make.host("h9", last_heartbeat=now + timedelta(hours=1))
    operator = api_of(make.project(), operator=True)
    assert operator.get("hosts?name=h9").json["hosts"][0]["status"] == "silent"
    assert "speaking" not in (badge := str(heartbeat(host, now)))
    assert "the clock was set back" in badge
