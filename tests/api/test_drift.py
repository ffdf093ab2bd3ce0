"""Drift over the API: who may read it, and how it is filtered, sorted and paged."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from cloud.drift import Drift
from cloud.models import Host
from tests import factories as make
from tests.api.conftest import Api, api_of


@pytest.fixture
def operator(lab: None) -> Api:
    return api_of(make.project(), operator=True)


def difference(name: str, **values: Any) -> Drift:
    facts = {
        "host": Host.objects.get(name="h1"),
        "kind": "tap",
        "direction": "extra",
        "verb": "quarantine",
        "reason": "nothing says that it is ours",
    }
    return Drift.objects.create(name=name, **{**facts, **values})


def names(api: Api, query: str = "") -> list[str]:
    answer = api.get(f"drift?{query}")
    assert answer.status == 200, answer.json
    return [one["name"] for one in answer.json["drift"]]


def test_operators_alone_read_it(operator: Api) -> None:
    assert operator.get("drift").json["drift"] == []
    plain = api_of(make.project("other")).get("drift")
    assert (plain.status, plain.code) == (403, "forbidden")
    assert Api(None).get("drift").status == 401


def test_a_difference_says_what_it_is_how_old_and_what_would_be_done(operator: Api) -> None:
    since = timezone.now() - timedelta(minutes=2)
    row = difference("cu7-0", first_seen=since, server_id=7)
    shown = operator.get(f"drift/{row.pk}").json["difference"]
    assert shown["host"] == {"id": row.host_id, "name": "h1"}
    assert (shown["kind"], shown["name"], shown["direction"]) == ("tap", "cu7-0", "extra")
    assert (shown["repair"], shown["server_id"]) == ("quarantine", 7)
    assert 120 <= shown["age"] < 180
    assert shown["confirmed"]
    assert (shown["kept"], shown["closed"]) == (None, None)
    assert operator.get("drift").json["drift"][0]["id"] == row.pk


def test_a_difference_that_is_not_there_is_an_error_of_the_contract(operator: Api) -> None:
    assert operator.get("drift/4711").code == "not_found"
    assert operator.post("drift", {}).status in (404, 405)


def test_lists_show_what_stands_unless_another_state_is_asked_for(operator: Api) -> None:
    now = timezone.now()
    difference("stands", verb="send_server")
    difference("quarantined")
    difference("known", kept_at=now)
    difference("vanished", closed_at=now)
    assert names(operator) == ["stands", "quarantined"]
    assert names(operator, "state=quarantined") == ["quarantined"]
    assert names(operator, "state=kept") == ["known"]
    assert names(operator, "state=closed") == ["vanished"]


def test_they_are_filtered_by_host_kind_side_and_age(operator: Api) -> None:
    old = timezone.now() - timedelta(hours=1)
    difference("a", host=make.host("h9"), first_seen=old)
    difference("b", kind="bridge")
    difference("c", direction="missing")
    assert names(operator, "host=h9") == ["a"]
    assert names(operator, "kind=bridge") == ["b"]
    assert names(operator, "direction=missing") == ["c"]
    assert names(operator, "older_than=600") == ["a"]
    assert names(operator, "host=nobody") == []


def test_they_are_sorted_and_paged_as_everything(operator: Api) -> None:
    now = timezone.now()
    for age, name in enumerate(("young", "older", "oldest")):
        difference(name, first_seen=now - timedelta(minutes=age))
    assert names(operator, "sort=first_seen") == ["oldest", "older", "young"]
    assert names(operator, "sort=first_seen:desc&per_page=1&page=2") == ["older"]
    meta = operator.get("drift?per_page=2").json["meta"]["pagination"]
    assert (meta["last_page"], meta["total_entries"]) == (2, 3)
    assert operator.get("drift?sort=age").code == "invalid_input"
