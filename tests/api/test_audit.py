"""The audit trail over the API: who is named in it, who may read it, and how it is searched."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client

from cloud.actor import UNDECLARED, current
from cloud.models import ApiToken, AuditEntry
from tests import factories as make
from tests.api.conftest import Api, api_of, host_says
from vms.models import VM


@pytest.fixture
def operator(lab: None) -> Api:
    return api_of(make.project(), operator=True)


def entries(api: Api, query: str = "") -> list[dict[str, Any]]:
    answer = api.get(f"audit?{query}")
    assert answer.status == 200, answer.json
    found: list[dict[str, Any]] = answer.json["audit"]
    return found


def test_a_token_is_named_with_its_request(operator: Api, order: dict[str, Any]) -> None:
    token = ApiToken.objects.get()
    created = operator.post("servers", order, **{"X-Request-ID": "req-1"})
    found, address = entries(operator, "request_id=req-1")
    server = created.json["server"]
    assert found["actor"] == {"type": "token", "id": token.pk, "name": "default/token 0"}
    assert (found["verb"], address["verb"]) == ("server.create", "primary_ip.create")
    assert address["after"]["server_id"] == server["id"]
    assert found["resource"] == {"type": "server", "id": server["id"], "name": "web-1"}
    assert found["project"] == {"id": make.project().pk, "name": "default"}
    assert found["before"] is None
    assert found["after"]["memory_mb"] == 256
    assert found["action_id"] == created.json["action"]["id"]
    assert operator.get(f"audit/{found['id']}").json["audit_entry"] == found


def test_nobody_is_remembered_after_a_request(api: Api, order: dict[str, Any]) -> None:
    api.post("servers", order)
    assert current() == UNDECLARED
    make.ordered("web-2")
    assert AuditEntry.objects.get(resource_name="web-2").actor_name == UNDECLARED.name


@pytest.mark.django_db(transaction=True)
def test_tokens_that_ask_at_once_are_not_mistaken_for_each_other(lab: None) -> None:
    tokens = [api_of(make.project()) for _ in range(6)]
    make.pool("203.0.113.64/26")

    def order(number: int) -> int:
        body = {"name": f"web-{number}", "server_type": "nano", "image": "micro"}
        try:
            return tokens[number % 6].post("servers", body).status
        finally:
            connections.close_all()

    # Fewer threads than tokens, so that each thread serves several of them.
    with ThreadPoolExecutor(3) as threads:
        assert set(threads.map(order, range(12))) == {201}
    told = AuditEntry.objects.filter(verb="server.create")
    assert {(one.resource_name, one.actor_name) for one in told} == {
        (f"web-{number}", f"default/token {number % 6}") for number in range(12)
    }


def test_an_administrator_in_the_browsable_api_is_named(lab: None, order: dict[str, Any]) -> None:
    make.project()
    ada = User.objects.create_superuser("ada")
    browser = Client()
    browser.force_login(ada)
    assert browser.post("/v1/servers", order, content_type="application/json").status_code == 201
    found = AuditEntry.objects.get(verb="server.create")
    assert (found.actor_kind, found.actor_id, found.actor_name) == ("user", ada.pk, "ada")


def test_a_repeated_request_changes_and_tells_once(operator: Api, order: dict[str, Any]) -> None:
    for _ in range(2):
        assert operator.post("servers", order, **{"Idempotency-Key": "k"}).status == 201
    assert len(entries(operator, "verb=server.create")) == 1


def test_a_refused_request_leaves_no_entry(operator: Api, order: dict[str, Any]) -> None:
    operator.post("servers", order)
    before = len(entries(operator))
    assert operator.post("servers", order).status == 409
    assert operator.post("servers", {**order, "name": "-"}).status == 422
    assert len(entries(operator)) == before


def test_what_hosts_prove_is_theirs_not_the_users(operator: Api, order: dict[str, Any]) -> None:
    server = operator.post("servers", order).json["server"]["id"]
    operator.delete(f"servers/{server}")
    host_says(VM.objects.get())
    gone, deleted = entries(operator, f"resource_type=server&resource_id={server}")[:2]
    assert (gone["verb"], gone["actor"]) == ("server.gone", {"type": "host", "name": "host-h1"})
    assert (deleted["verb"], deleted["actor"]["type"]) == ("server.delete", "token")
    assert gone["after"] is None


def test_it_is_for_operators_and_to_read(api: Api, operator: Api) -> None:
    assert (api.get("audit").status, api.get("audit").code) == (403, "forbidden")
    path = f"audit/{AuditEntry.objects.latest('id').pk}"
    assert api.get(path).status == 403
    for method, where in (("POST", "audit"), ("PUT", path), ("DELETE", path)):
        assert operator.ask(method, where).code == "method_not_allowed"


def test_it_is_searched_by_who_what_and_when(operator: Api, order: dict[str, Any]) -> None:
    operator.post("servers", order)
    operator.post("ssh_keys", {"name": "key", "public_key": make.SSH_KEY})
    host_says(VM.objects.get())

    def verbs(query: str) -> list[str]:
        return [found["verb"] for found in entries(operator, query)]

    made = ["ssh_key.create", "server.create", "primary_ip.create"]
    assert verbs("") == [*made, "token.issue"]
    assert verbs("sort=id") == ["token.issue", *reversed(made)]
    assert verbs("sort=verb:desc&per_page=1") == ["token.issue"]
    assert verbs("verb=server.create") == ["server.create"]
    assert verbs("actor=default/token 0") == made
    assert verbs(f"actor_type=token&actor_id={ApiToken.objects.get().pk}&resource_type=server") == [
        "server.create"
    ]
    assert verbs("actor_type=system") == ["token.issue"]
    assert verbs("verb=server.explode") == verbs("actor_type=x") == verbs("resource_type=x") == []
    assert verbs("actor=nobody") == verbs("resource_id=4242") == verbs("request_id=none") == []
    middle = AuditEntry.objects.get(verb="server.create").at
    assert verbs(f"since={stamp(middle)}") == ["ssh_key.create", "server.create"]
    assert verbs(f"until={stamp(middle)}") == ["primary_ip.create", "token.issue"]
    assert verbs(f"since={stamp(middle + timedelta(hours=1))}") == []


def stamp(moment: Any) -> str:
    return str(moment.isoformat()).replace("+00:00", "Z")


@pytest.mark.parametrize(
    "query", ["since=yesterday", "until=x", "resource_id=web-1", "actor_id=x", "sort=before"]
)
def test_a_search_that_makes_no_sense_is_refused(operator: Api, query: str) -> None:
    answer = operator.get(f"audit?{query}")
    assert (answer.status, answer.fields) == (422, [query.partition("=")[0]])


@pytest.mark.faults
@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "yesterday"]
)
@pytest.mark.parametrize("path", ["audit", "dead_letters"])
def test_a_moment_that_the_database_does_not_know_is_refused(
    lab: None, moment: str, path: str
) -> None:
    answer = api_of(make.project(), operator=True).get(f"{path}?since={quote(moment)}")
    assert (answer.status, answer.fields) == (422, ["since"])
