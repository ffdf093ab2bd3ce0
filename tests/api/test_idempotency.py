"""Writes that arrive twice have one effect."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connections
from django.urls import URLPattern
from django.utils import timezone

from cloud import urls
from cloud.models import Action, IdempotencyKey, Project
from tests import factories as make
from tests.api.conftest import Answer, Api, api_of
from vms import reconcile
from vms.models import VM

KEY = {"Idempotency-Key": "order-66"}


def test_a_repeated_order_gets_the_first_answer(api: Api, order: dict[str, Any]) -> None:
    first = api.post("servers", order, **KEY)
    again = api.post("servers", order, **KEY)
    assert (first.status, again.status) == (201, 201)
    assert again.json == first.json
    assert again.json["root_password"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert VM.objects.count() == 1
    assert Action.objects.filter(command="create_server").count() == 1


def test_a_root_password_cannot_be_read_from_the_table(api: Api, order: dict[str, Any]) -> None:
    password = api.post("servers", order, **KEY).json["root_password"]
    stored = IdempotencyKey.objects.values().get()
    assert password not in str(stored)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "servers", {"name": "other", "server_type": "nano", "image": "micro"}),
        ("POST", "ssh_keys", {"name": "k", "public_key": make.SSH_KEY}),
        ("DELETE", "servers/1", None),
    ],
)
def test_a_key_is_good_for_one_request(
    api: Api, order: dict[str, Any], method: str, path: str, body: Any
) -> None:
    api.post("servers", order, **KEY)
    answer = api.ask(method, path, body, KEY)
    assert (answer.status, answer.code) == (409, "idempotency_key_reused")


def test_a_refused_request_keeps_no_key_and_may_be_repeated(
    api: Api, order: dict[str, Any]
) -> None:
    assert api.post("servers", {**order, "image": "later"}, **KEY).status == 422
    assert not IdempotencyKey.objects.exists()
    make.image("later", sha256="cd" * 32)
    assert api.post("servers", {**order, "image": "later"}, **KEY).status == 201


def test_projects_do_not_share_keys(api: Api, order: dict[str, Any]) -> None:
    other = api_of(Project.objects.create(name="other"))
    ids = {asker.post("servers", order, **KEY).json["server"]["id"] for asker in (api, other)}
    assert len(ids) == 2


def test_changes_and_deletions_are_replayed_too(api: Api) -> None:
    key = api.post("ssh_keys", {"name": "k", "public_key": make.SSH_KEY}).json["ssh_key"]
    path = f"ssh_keys/{key['id']}"
    change = {"Idempotency-Key": "change"}
    first = api.put(path, {"name": "renamed"}, **change)
    api.put(path, {"name": "renamed again"})
    assert api.put(path, {"name": "renamed"}, **change).json == first.json
    assert [api.delete(path, **KEY).status for _ in range(2)] == [204, 204]
    assert api.delete(path).status == 404


@pytest.mark.parametrize("key", ["", "x" * 256, "ä"])
def test_a_malformed_key_is_refused(api: Api, order: dict[str, Any], key: str) -> None:
    answer = api.post("servers", order, **{"Idempotency-Key": key})
    assert (answer.status, answer.fields) == (422, ["Idempotency-Key"])


def test_keys_are_forgotten_after_a_day(api: Api, order: dict[str, Any]) -> None:
    api.post("servers", order, **KEY)
    now = timezone.now()
    reconcile.tidy(now + timedelta(hours=23))
    assert IdempotencyKey.objects.count() == 1
    reconcile.tidy(now + timedelta(hours=25))
    assert IdempotencyKey.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_of_parallel_orders_with_one_key_one_is_carried_out(
    api: Api, order: dict[str, Any]
) -> None:
    answers = together(4, lambda _: api.post("servers", order, **KEY))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json["server"]["id"] for answer in answers}) == 1
    assert len({answer.json["root_password"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 3
    assert VM.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_parallel_orders_for_one_name_one_is_carried_out(
    api: Api, order: dict[str, Any]
) -> None:
    answers = together(4, lambda _: api.post("servers", order))
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409]
    assert {answer.code for answer in answers} == {None, "uniqueness_error"}
    assert VM.objects.count() == 1


def test_every_write_honours_the_key() -> None:
    views = [pattern.callback for pattern in urls.api if isinstance(pattern, URLPattern)]
    handlers = [
        getattr(view.cls, handler)
        for view in views
        for method, handler in (getattr(view, "actions", None) or {}).items()
        if method not in ("get", "head")
    ]
    assert handlers
    assert [handler for handler in handlers if not hasattr(handler, "idempotent")] == []


def together(count: int, ask: Callable[[int], Answer]) -> list[Answer]:
    """All at the same moment, each on its own connection."""
    start = Barrier(count)

    def one(number: int) -> Answer:
        start.wait(timeout=10)
        try:
            return ask(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))
