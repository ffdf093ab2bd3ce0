"""Dead letters over the API: read by operators, filtered exactly."""

from __future__ import annotations

from typing import Any

import pytest

from cloud.models import DeadLetter
from tests import factories as make
from tests.api.conftest import Api, api_of


@pytest.fixture
def operator(lab: None) -> Api:
    return api_of(make.project(), operator=True)


def letter(digest: str, **values: Any) -> DeadLetter:
    facts = {
        "queue": "host.h1",
        "reason": "rejected",
        "explanation": "its body is not JSON",
        "host": "h1",
        "bytes": 12,
        "task": "vms.ensure",
    }
    return DeadLetter.objects.create(digest=digest, **{**facts, **values})


def test_an_operator_reads_letters_the_last_first(operator: Api) -> None:
    first = letter("1", resource_type="server", resource_id=7, actions=[3, 4], request_id="r-1")
    second = letter("2", queue="reports", host="")
    found = operator.get("dead_letters").json["dead_letters"]
    assert [one["id"] for one in found] == [second.pk, first.pk]
    assert found[1]["resource"] == {"type": "server", "id": 7}
    assert found[0]["resource"] is None
    assert found[1]["actions"] == [3, 4]
    assert operator.get(f"dead_letters/{first.pk}").json["dead_letter"] == found[1]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("queue=reports", ["2"]),
        ("host=h1", ["1"]),
        ("request_id=r-1", ["1"]),
        ("resource_type=server&resource_id=7", ["1"]),
        ("reason=maxlen", []),
        ("queue=repo", []),
        ("sort=queue:desc", ["2", "1"]),
    ],
)
def test_letters_are_found_by_what_they_say(operator: Api, query: str, found: list[str]) -> None:
    letter("1", resource_type="server", resource_id=7, request_id="r-1")
    letter("2", queue="reports", host="")
    digests = dict(DeadLetter.objects.values_list("pk", "digest"))
    answer = operator.get(f"dead_letters?{query}").json["dead_letters"]
    assert [digests[one["id"]] for one in answer] == found


def test_a_token_without_the_right_sees_none(api: Api) -> None:
    letter("1")
    assert api.get("dead_letters").status == 403
