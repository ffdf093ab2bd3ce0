"""What our templates add to Flower's, and that they find them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cloud.flower.pages import Templates, request_of

ADMIN = "https://cloud.example/admin/cloud/action/"


@pytest.mark.parametrize(
    ("kwargs", "request_id"),
    [
        ("request_id=7d0c", "7d0c"),
        ("request_id=Root=1-2;a/b+c", "Root=1-2;a/b+c"),
        ("{}", None),
        ("", None),
        (None, None),
        ({}, None),
        ("request_id=", None),
        ("request_id=a b", None),
        ("request_id=<script>", None),
        ("other_id=7d0c", None),
    ],
)
def test_a_task_tells_its_request(kwargs: object, request_id: str | None) -> None:
    assert request_of(kwargs) == request_id


def page(name: str, **context: Any) -> str:
    """A page as Flower's handlers render it."""
    namespace = {
        "static_url": lambda path: f"/static/{path}",
        "reverse_url": lambda name, *_: f"/{name}",
        "humanize": lambda value, **_: value,
        "url_prefix": None,
        "_tt_modules": SimpleNamespace(Template=lambda *_, **__: ""),
    }
    templates = Templates({"admin_url": ADMIN})
    return templates.load(name).generate(**namespace, **context).decode()


def task_page(kwargs: str) -> str:
    task = SimpleNamespace(
        name="vms.ensure", uuid="1234", state="SUCCESS", args="", kwargs=kwargs, _fields=()
    )
    return page("task.html", task=task, read_only=True)


def test_a_tasks_page_is_flowers_own_with_the_request_added() -> None:
    html = task_page("request_id=a=b;c")
    assert "Keyword arguments" in html
    assert '<dd data-request="a=b;c"></dd>' in html
    assert f'data-admin="{ADMIN}"' in html


@pytest.mark.parametrize("kwargs", ["{}", 'request_id="><script>alert(1)</script>'])
def test_a_tasks_page_without_a_usable_id_has_no_request(kwargs: str) -> None:
    html = task_page(kwargs)
    assert 'id="request-row"' not in html
    assert "<script>alert" not in html


def test_the_list_keeps_flowers_columns_and_gets_our_script_after_flowers() -> None:
    html = page("tasks.html", columns=[("name", "Name"), ("kwargs", "kwargs")], time="time")
    assert '<th data-column="kwargs">' in html
    assert 0 < html.index("js/flower.js") < html.index('data-tasks="/tasks"')
