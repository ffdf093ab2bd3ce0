"""What is remembered of a task that failed is shown to people, so it holds nobody's secrets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Reject
from django.db import IntegrityError

from cloud.intake import message_of, remembered, task_class


def test_a_row_that_the_database_refused_is_not_repeated() -> None:
    app = Celery("test", set_as_current=False, fixups=[], task_cls=task_class(()))

    @app.task(name="test.fail")  # type: ignore[misc]  # untyped decorator
    def fail() -> None:
        raise IntegrityError('violates "vm_sane"\nDETAIL:  Failing row contains (7, $6$hash).\n')

    task: Any = fail
    task.push_request(id="one")
    with pytest.raises(Reject):
        task()
    task.pop_request()
    assert remembered("one") == 'IntegrityError: violates "vm_sane"'


def test_a_body_of_half_a_character_is_still_a_message() -> None:
    raw = SimpleNamespace(
        body="\ud800", content_type="application/json", content_encoding="utf-7", headers={},
        properties={"user_id": "host-h1"}, delivery_info={"exchange": "reports"},
    )  # fmt: skip
    message = message_of(raw)
    assert message.body == b"\xed\xa0\x80"
    assert message.sender == "host-h1"
