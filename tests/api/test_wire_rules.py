"""The contract's wire rules, walked along tables: shapes, headers, errors, pages, order."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from django.urls import URLPattern

from cloud import urls
from cloud.api.pagination import MAX_PER_PAGE
from cloud.models import Project
from cloud.tokens import issue_token
from tests import factories as make
from tests.api.conftest import Api, api_of
from vms.actions import create_vm
from vms.models import SshKey
from vms.ssh_keys import create_ssh_key

LISTS = sorted(
    {
        str(pattern.pattern)
        for pattern in urls.api
        if isinstance(pattern, URLPattern) and re.fullmatch(r"[a-z_]+", str(pattern.pattern))
    }
    - {"pricing", "schema", "docs"}
)
RATE = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
BIG = '{"name":' * 5000


@pytest.fixture
def api(lab: None) -> Api:
    """With one server and one key, so that no list of ours is empty."""
    project = make.project()
    servers(project, "web-1")
    return api_of(project, operator=True)


def servers(project: Project, *names: str) -> None:
    """With a key, because hashing passwords takes its time."""
    key = SshKey.objects.first() or create_ssh_key(
        project, name="key", public_key=make.SSH_KEY, labels={}
    )
    for name in names:
        create_vm(project, make.order(name, ssh_keys=(key,)))


@pytest.mark.parametrize("plural", LISTS)
def test_every_list_is_wrapped_and_paged(api: Api, plural: str) -> None:
    answer = api.get(plural)
    assert answer.status == 200
    assert answer.type == "application/json"
    assert isinstance(answer.json[plural], list)
    assert set(answer.json["meta"]) == {"pagination"}
    assert set(answer.json["meta"]["pagination"]) == {
        "page", "per_page", "previous_page", "next_page", "last_page", "total_entries",
    }  # fmt: skip


@pytest.mark.parametrize("plural", LISTS)
def test_every_list_takes_what_clients_send_to_all_of_them(api: Api, plural: str) -> None:
    sent = "sort=id:asc&page=1&per_page=50&label_selector=&name=none&unheard_of=1"
    assert api.get(f"{plural}?{sent}").status == 200


@pytest.mark.parametrize("plural", LISTS)
@pytest.mark.parametrize("query", ["page=0", "page=x", "page=-1", "per_page=0", f"page={'9' * 40}"])
def test_no_list_takes_a_malformed_page(api: Api, plural: str, query: str) -> None:
    answer = api.get(f"{plural}?{query}")
    assert (answer.status, answer.code) == (422, "invalid_input")
    assert answer.fields == [query.split("=")[0]]


@pytest.mark.parametrize("plural", LISTS)
def test_an_object_that_does_not_exist_is_not_found(api: Api, plural: str) -> None:
    for number in ("4242", "9007199254740991", "9" * 40):
        answer = api.get(f"{plural}/{number}")
        assert (answer.status, answer.code) == (404, "not_found")


def values(document: Any, key: str = "") -> list[tuple[str, Any]]:
    """Every leaf of a JSON document under its last key."""
    if isinstance(document, dict):
        return [leaf for key, inner in document.items() for leaf in values(inner, key)]
    if isinstance(document, list):
        return [leaf for inner in document for leaf in values(inner, key)]
    return [(key, document)]


@pytest.mark.parametrize("plural", LISTS)
def test_types_are_those_that_typed_clients_insist_on(api: Api, plural: str) -> None:
    floats = {"memory", "image_size", "disk_size", "latitude", "longitude"}
    integers = {"id", "cores", "disk", "primary_disk_size", "progress", "page", "total_entries"}
    times = {"created", "started", "finished", "announced", "unavailable_after", "last_heartbeat"}
    for key, value in values(api.get(plural).json):
        if key in floats:
            assert isinstance(value, float), key
        if key in integers:
            assert type(value) is int, key
        if key in times and value is not None:
            assert RFC3339.fullmatch(value), key


def test_labels_and_lists_are_never_null(api: Api) -> None:
    server = api.get("servers").json["servers"][0]
    assert server["labels"] == {}
    for key in ("private_net", "volumes", "load_balancers"):
        assert server[key] == []
    assert server["public_net"]["floating_ips"] == server["public_net"]["firewalls"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "nothing", None, 404, "not_found"),
        ("POST", "nothing/at/all", None, 404, "not_found"),
        ("GET", "servers/", None, 404, "not_found"),
        ("GET", "", None, 404, "not_found"),
        ("GET", "servers/web-1", None, 404, "not_found"),
        ("POST", "servers/1/actions/dance", None, 404, "not_found"),
        ("PATCH", "servers", None, 405, "method_not_allowed"),
        ("DELETE", "locations", None, 405, "method_not_allowed"),
        ("OPTIONS", "servers", None, 405, "method_not_allowed"),
        ("GET", "servers/1/actions/poweron", None, 405, "method_not_allowed"),
        ("POST", "ssh_keys", "{", 400, "json_error"),
        ("POST", "ssh_keys", "[]", 400, "json_error"),
        ("POST", "ssh_keys", '"text"', 400, "json_error"),
        ("POST", "ssh_keys", '{"name": NaN}', 400, "json_error"),
        ("POST", "ssh_keys", b"\xff\xfe", 400, "json_error"),
        ("POST", "ssh_keys", BIG, 400, "json_error"),
        ("POST", "ssh_keys", " " * 3_000_000, 400, "json_error"),
        ("POST", "ssh_keys", None, 422, "invalid_input"),
        ("POST", "ssh_keys", {"name": "\x00", "public_key": "x"}, 422, "invalid_input"),
        ("POST", "ssh_keys", '{"name": "\\ud800", "public_key": "x"}', 422, "invalid_input"),
        ("GET", "servers?label_selector=a%3Db%3Dc", None, 422, "invalid_input"),
        ("GET", "servers?sort=size", None, 422, "invalid_input"),
        ("GET", "servers?sort=name:up", None, 422, "invalid_input"),
        ("GET", "servers?sort=project__name", None, 422, "invalid_input"),
        ("GET", "servers?name=%00", None, 422, "invalid_input"),
        ("POST", "load_balancers", {"name": "lb"}, 422, "unsupported_error"),
        ("PUT", "placement_groups/1", {"name": "n"}, 422, "unsupported_error"),
        ("DELETE", "volumes/1", None, 422, "unsupported_error"),
        ("POST", "volumes/1/actions/attach", {}, 422, "unsupported_error"),
        ("GET", "zones/1/rrsets", None, 404, "not_found"),
    ],
)  # fmt: skip
def test_every_refusal_is_json_in_the_same_shape(
    api: Api, method: str, path: str, body: Any, status: int, code: str
) -> None:
    answer = api.ask(method, path, body)
    assert (answer.status, answer.code) == (status, code)
    assert answer.type == "application/json"
    assert set(answer.json) == {"error"}
    assert set(answer.error) == {"code", "message", "details"}
    assert answer.error["message"]
    # hcloud 1.30.3 shows nothing but the status unless the fields are there.
    if code == "invalid_input":
        assert all(
            set(field) == {"name", "messages"} and field["messages"]
            for field in answer.error["details"]["fields"]
        )
    else:
        assert answer.error["details"] is None


@pytest.mark.parametrize("path", ["servers", "nothing", "servers/4242", "servers?page=x", "hosts"])
def test_every_answer_tells_the_rate_and_the_request(api: Api, path: str) -> None:
    for asker in (api, Api(token=None), Api(token="0" * 64)):
        answer = asker.get(path, **{"X-Request-ID": "the-request"})
        assert all(int(answer.headers[name]) >= 0 for name in RATE)
        assert answer.headers["X-Request-ID"] == "the-request"
        assert answer.headers["X-Correlation-Id"] == "the-request"


def test_a_crash_is_told_without_its_cause(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr("cloud.views.Locations.get_queryset", crash)
    answer = api.get("locations", **{"X-Request-ID": "look-here"})
    assert (answer.status, answer.code) == (500, "server_error")
    assert "secret" not in str(answer.json)
    assert "look-here" in answer.error["message"]


def test_a_crash_outside_of_every_view_is_json_too(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(self: object, request: object) -> None:
        raise RuntimeError("broken middleware")

    monkeypatch.setattr("django.middleware.common.CommonMiddleware.process_request", crash)
    answer = api.get("locations")
    assert (answer.status, answer.code) == (500, "server_error")
    assert answer.type == "application/json"


def test_a_foreign_host_header_is_refused_in_json(api: Api) -> None:
    answer = api.get("locations", Host="evil.example")
    assert (answer.status, answer.code, answer.type) == (400, "json_error", "application/json")


@pytest.mark.faults
def test_past_its_rate_a_token_is_refused_and_others_of_its_project_are_not(
    api: Api, settings: Any
) -> None:
    settings.API_REQUESTS_PER_HOUR = 2
    project = Project.objects.create(name="two clients")
    greedy, modest = (Api(issue_token(project, name)) for name in ("greedy", "modest"))
    assert [greedy.get("locations").status for _ in range(3)] == [200, 200, 429]
    refused = greedy.get("locations")
    assert refused.code == "rate_limit_exceeded"
    assert refused.headers["RateLimit-Remaining"] == "0"
    assert int(refused.headers["Retry-After"]) > 0
    assert 0 < int(refused.headers["RateLimit-Reset"]) - time.time() <= 3601
    assert modest.get("locations").status == 200


@pytest.mark.faults
def test_a_token_may_have_a_limit_of_its_own(api: Api) -> None:
    slow = Api(issue_token(Project.objects.create(name="p"), "slow", requests_per_hour=1))
    first = slow.get("nothing/of/the/kind")
    assert (first.status, first.headers["RateLimit-Limit"]) == (404, "1")
    assert slow.get("locations").status == 429


def test_pages_follow_each_other_and_end(api: Api) -> None:
    make.host("h2", disk_gb=1000)
    make.pool("203.0.113.64/26")
    servers(make.project(), *(f"more-{number}" for number in range(59)))
    seen: list[int] = []
    page: int | None = 1
    while page:
        answer = api.get(f"servers?page={page}&per_page=25&sort=id")
        seen += [server["id"] for server in answer.json["servers"]]
        meta = answer.json["meta"]["pagination"]
        assert meta["total_entries"] == 60
        assert meta["last_page"] == 3
        assert meta["previous_page"] == (page - 1 or None)
        page = meta["next_page"]
    assert len(seen) == 60
    assert seen == sorted(seen)
    assert api.get("servers?page=4").json["servers"] == []
    assert api.get("servers?page=999999999999999").json["servers"] == []


def test_a_page_holds_at_most_fifty(api: Api) -> None:
    assert api.get("servers?per_page=5000").json["meta"]["pagination"]["per_page"] == MAX_PER_PAGE


def test_sorting_is_by_one_key_or_more_in_either_direction(api: Api) -> None:
    servers(make.project(), "c", "a", "b")

    def names(query: str) -> list[str]:
        return [server["name"] for server in api.get(f"servers?{query}").json["servers"]]

    assert names("sort=name") == names("sort=name:asc") == ["a", "b", "c", "web-1"]
    assert names("sort=name:desc") == ["web-1", "c", "b", "a"]
    assert names("sort=created:desc&sort=name") == ["b", "a", "c", "web-1"]
    assert names("") == ["web-1", "c", "a", "b"]


@pytest.mark.parametrize("body", [None, "", "{}", '{"unknown": 1}', '{"type": null}'], ids=str)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", ""])
def test_actions_take_any_empty_body(api: Api, body: str | None, kind: str) -> None:
    server = api.get("servers").json["servers"][0]["id"]
    answer = api.ask(
        "POST", f"servers/{server}/actions/change_protection", body, {"Content-Type": kind}
    )
    assert answer.status == 201


def test_an_answer_without_body_has_no_type(api: Api) -> None:
    key = api.get("ssh_keys").json["ssh_keys"][0]["id"]
    answer = api.delete(f"ssh_keys/{key}")
    assert (answer.status, answer.type, answer.json) == (204, "", None)


@pytest.mark.parametrize("accept", ["application/xml", "*/*", "text/plain;q=0.5", "nonsense", ""])
def test_whatever_a_client_accepts_it_gets_json(api: Api, accept: str) -> None:
    assert api.get("servers", Accept=accept).type == "application/json"
