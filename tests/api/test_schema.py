"""The OpenAPI document, and that answers are what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator

from cloud.drift import Drift
from cloud.models import AuditEntry, DeadLetter, Host
from networks.models import IpType
from networks.public_ips import IpOrder
from tests import factories as make
from tests.api.conftest import Api, api_of
from tests.db import mesh
from vms.actions import create_vm
from vms.firewalls.actions import FirewallOrder, Target, create_firewall
from vms.floating_ips import create_floating_ip


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return found


def test_the_document_is_valid_and_made_without_a_warning(tmp_path: Path) -> None:
    call_command("spectacular", fail_on_warn=True, validate=True, file=str(tmp_path / "schema"))


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_the_document_is_made_once_however_often_it_is_asked_for(
    lab: None, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    first = Client().get(f"/v1/schema?format={form}")

    def again(*_: Any, **__: Any) -> Any:
        pytest.fail("it was made again")

    monkeypatch.setattr(SchemaGenerator, "get_schema", again)
    assert Client().get(f"/v1/schema?format={form}&version=x&lang=de").content == first.content


def test_the_document_and_its_page_are_served_to_everybody(lab: None) -> None:
    schema = Client().get("/v1/schema?format=json")
    assert schema.status_code == 200
    assert schema.json()["info"]["title"] == "Cumulet"
    page = Client().get("/v1/docs", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert b"swagger-ui" in page.content
    # Nothing is loaded from elsewhere.
    assert b"https://" not in page.content


@pytest.mark.parametrize(
    "path",
    [
        "/v1/servers", "/v1/servers/{id}", "/v1/servers/{owner}/actions",
        "/v1/servers/{owner}/actions/{id}", "/v1/servers/actions", "/v1/actions",
        "/v1/actions/{id}", "/v1/images", "/v1/images/{id}", "/v1/server_types",
        "/v1/server_types/{id}", "/v1/locations", "/v1/locations/{id}", "/v1/ssh_keys",
        "/v1/servers/{id}/metrics", "/v1/datacenters/{id}", "/v1/hosts", "/v1/hosts/{id}",
        "/v1/hosts/{owner}/nics", "/v1/pricing", "/v1/audit", "/v1/audit/{id}",
        "/v1/drift", "/v1/drift/{id}", "/v1/dead_letters", "/v1/dead_letters/{id}",
        "/v1/primary_ips", "/v1/primary_ips/{id}", "/v1/floating_ips", "/v1/floating_ips/{id}",
        "/v1/floating_ips/{owner}/actions", "/v1/addresses/{ip}/history",
        "/v1/firewalls", "/v1/firewalls/{id}", "/v1/firewalls/{owner}/actions",
        "/v1/networks", "/v1/networks/{id}", "/v1/networks/{owner}/actions",
        "/v1/networks/{owner}/members",
    ],
)  # fmt: skip
def test_answers_are_what_the_document_says(lab: None, document: dict[str, Any], path: str) -> None:
    make.pool("2001:db8::/56")
    Host.objects.update(**mesh.facts(1))
    network = mesh.network()
    ordered = create_vm(make.project(), make.order(networks=(network,)))
    order = IpOrder(IpType.IPV4, make.location())
    floating, _ = create_floating_ip(make.project(), order, ordered.vm)
    targets = (Target(server=ordered.vm.pk), Target(selector="env"))
    rule = {"direction": "in", "protocol": "icmp", "source_ips": ["::/0"]}
    web = FirewallOrder("web", rules=[rule], apply_to=targets)
    drift = Drift.objects.create(
        host=ordered.vm.host, kind="tap", name="tap-1", direction="extra", verb="quarantine"
    )
    letter = DeadLetter.objects.create(
        queue="reports", reason="rejected", explanation="no JSON", bytes=1
    )
    ids = {
        "firewalls": create_firewall(make.project(), web)[0].pk,
        "servers": ordered.vm.pk,
        "actions": ordered.action.pk,
        "images": ordered.vm.image_id,
        "server_types": ordered.vm.server_type_id,
        "hosts": ordered.vm.host_id,
        "audit": AuditEntry.objects.latest("id").pk,
        "drift": drift.pk,
        "dead_letters": letter.pk,
        "primary_ips": ordered.vm.nics.get(index=0).ipv4_id,
        "networks": network.pk,
        "floating_ips": floating.pk,
    }
    owner = path.split("/")[2]
    kind = "actions" if "actions" in path else owner
    asked = path.format(
        id=ids.get(kind, make.location().pk), owner=ids.get(owner), ip=floating.address
    )
    if kind == "servers" and path.endswith("/metrics"):
        asked += "?type=cpu&start=2026-11-01T12:00:00Z&end=2026-11-01T13:00:00Z"
    answer = api_of(make.project(), operator=True).get(asked.removeprefix("/v1/"))
    assert answer.status == 200
    conforms(document, path, "get", answer.status, answer.json)


def test_answers_to_writes_are_what_the_document_says(
    api: Api, order: dict[str, Any], document: dict[str, Any]
) -> None:
    created = api.post("servers", order)
    conforms(document, "/v1/servers", "post", 201, created.json)
    server = created.json["server"]["id"]
    to = [{"type": "server", "server": {"id": server}}]
    firewall = api.post("firewalls", {"name": "web", "apply_to": to})
    conforms(document, "/v1/firewalls", "post", 201, firewall.json)
    path = "/v1/firewalls/{id}/actions/set_rules"
    set_rules = api.post(f"{path.format(id=firewall.json['firewall']['id'])[4:]}", {"rules": []})
    conforms(document, path, "post", 201, set_rules.json)
    deleted = api.delete(f"servers/{server}")
    conforms(document, "/v1/servers/{id}", "delete", 200, deleted.json)
    refused = api.post("servers", {})
    conforms(document, "/v1/servers", "post", "default", refused.json)


def test_answers_about_public_ips_are_what_the_document_says(
    api: Api, document: dict[str, Any]
) -> None:
    for plural, body in (
        ("primary_ips", {"name": "mine", "location": "lab"}),
        ("floating_ips", {"home_location": "lab"}),
    ):
        created = api.post(plural, {"type": "ipv4", **body})
        conforms(document, f"/v1/{plural}", "post", 201, created.json)
        number = created.json[plural.removesuffix("s")]["id"]
        protected = api.post(f"{plural}/{number}/actions/change_protection", {"delete": True})
        path = f"/v1/{plural}/{{id}}/actions/change_protection"
        conforms(document, path, "post", 201, protected.json)


def conforms(
    document: dict[str, Any], path: str, method: str, status: int | str, answer: Any
) -> None:
    described = document["paths"][path][method]["responses"][str(status)]
    schema = described["content"]["application/json"]["schema"]
    components = {"components": _with_null(document["components"])}
    Draft202012Validator({**_with_null(schema), **components}).validate(answer)


def _with_null(schema: Any) -> Any:
    """OpenAPI 3.0 says `nullable` where JSON Schema says that null is a type."""
    if isinstance(schema, list):
        return [_with_null(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _with_null(value) for key, value in schema.items() if key != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if schema.get("nullable") is True else plain
