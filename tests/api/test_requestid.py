"""The id of a request over HTTP: which one is taken, and where it comes back."""

from __future__ import annotations

import uuid

import pytest
from django.test import Client

from cloud.models import Action
from tests import factories as make
from tests.api.conftest import Api, api_of

pytestmark = pytest.mark.trace
AMAZON = "Self=1-67891234-12456789abcdef012345678;Root=1-67891233-abcdef012345678912345678"
ALL = {"X-Request-ID": "a", "X-Correlation-ID": "b", "X-Amzn-Trace-Id": "Root=c"}

# Headers, and the id that is taken from them.
TAKEN = [
    pytest.param({"X-Request-ID": "one"}, "one", id="X-Request-ID alone"),
    pytest.param({"X-Correlation-ID": "two"}, "two", id="X-Correlation-ID alone"),
    pytest.param({"X-Amzn-Trace-Id": "Root=1-2-3"}, "1-2-3", id="X-Amzn-Trace-Id alone"),
    pytest.param(ALL, "a", id="all together"),
    pytest.param({**ALL, "X-Request-ID": ""}, "b", id="an empty first one"),
    pytest.param(
        {"X-Amzn-Trace-Id": AMAZON}, "1-67891234-12456789abcdef012345678", id="Self and Root"
    ),
    pytest.param({"X-Amzn-Trace-Id": "Root=r; Self=s"}, "s", id="Self after Root"),
    pytest.param(
        {"X-Amzn-Trace-Id": " Root=r ; Parent=p;Sampled=1; CalledFrom=app "},
        "r",
        id="spaces and further fields",
    ),
    pytest.param({"X-Request-ID": "x" * 128}, "x" * 128, id="as long as it may be"),
    pytest.param({"x-request-id": "lower"}, "lower", id="name in lower case"),
]

# What is no id, whichever header it comes in.
HOSTILE = [
    pytest.param("x" * 129, id="too long"),
    pytest.param("x" * 100_000, id="far too long"),
    pytest.param("a\r\nSet-Cookie: evil=1", id="line break"),
    pytest.param("a\x00b", id="NUL"),
    pytest.param("a\x1b[31mb", id="escape sequence"),
    pytest.param("a b", id="space"),
    pytest.param("<script>alert(1)</script>", id="markup"),
    pytest.param("{{7*7}}", id="template"),
    pytest.param("' OR 1=1 --", id="SQL"),
    pytest.param("one,two", id="sent twice"),
    pytest.param("späť", id="not ASCII"),
    pytest.param("\ud800", id="no character at all"),
]


@pytest.mark.parametrize(("headers", "taken"), TAKEN)
def test_the_callers_id_comes_back_under_both_names(
    api: Api, headers: dict[str, str], taken: str
) -> None:
    answer = api.get("locations", **headers)
    assert answer.status == 200
    assert answer.headers["X-Request-ID"] == taken
    assert answer.headers["X-Correlation-Id"] == taken


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", ["X-Request-ID", "X-Correlation-ID", "X-Amzn-Trace-Id"])
def test_what_is_no_id_is_replaced_and_never_echoed(api: Api, name: str, value: str) -> None:
    sent = f"Self={value}" if name == "X-Amzn-Trace-Id" else value
    answer = api.get("locations", **{name: sent})
    assert answer.status == 200
    assert uuid.UUID(answer.headers["X-Request-ID"]).version == 4
    assert answer.headers["X-Correlation-Id"] == answer.headers["X-Request-ID"]
    assert all(value not in text for text in answer.headers.values())


def test_without_an_id_each_request_gets_its_own(api: Api) -> None:
    first, second = (api.get("locations").headers["X-Request-ID"] for _ in range(2))
    assert uuid.UUID(first).version == uuid.UUID(second).version == 4
    assert first != second


@pytest.mark.parametrize("path", ["/v1/nowhere", "/admin/", "/nowhere", "/v1/servers/x"])
def test_refusals_and_pages_carry_the_id_too(db: None, path: str) -> None:
    answer = Client().get(path, headers={"X-Request-ID": "mine"})
    assert answer.headers["X-Request-ID"] == "mine"


def test_the_timeline_of_an_action_over_http(api: Api, order: dict[str, object]) -> None:
    answer = api.post("servers", order, **{"X-Request-ID": "order-1"})
    pk = answer.json["action"]["id"]
    timeline = api.get(f"actions/{pk}/timeline").json["timeline"]
    assert timeline["action"]["request_id"] == "order-1"
    placed, queued = timeline["steps"]
    assert (placed["name"], placed["attempt"], placed["error"]) == ("placed", 1, None)
    assert placed["duration"] >= 0
    assert (queued["name"], queued["finished"], queued["host"]) == ("queued", None, "h1")
    assert timeline["duration"] >= queued["duration"]


def test_the_timeline_of_another_projects_action_is_not_to_be_seen(
    api: Api, order: dict[str, object]
) -> None:
    pk = api.post("servers", order).json["action"]["id"]
    assert api_of(make.project("other")).get(f"actions/{pk}/timeline").status == 404
    assert Action.objects.filter(pk=pk).exists()
