"""Which messages a worker takes, and what may be shown of those that it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloud.poison import Message, document_of, unfit
from cloud.redaction import MOST_CHARACTERS, excerpt

CALL = json.dumps([[{"vm_id": 7}], {}, {"callbacks": None, "chord": None}]).encode()


def message(body: bytes = CALL, **values: Any) -> Message:
    facts = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": {"task": "reports.vm", "id": "t-1", "eta": None, "timelimit": [None, None]},
        "exchange": "reports",
    }
    return Message(body, **{**facts, **values})


def test_what_our_programs_send_is_taken() -> None:
    assert unfit(message(), {"reports.vm"}) is None
    assert document_of(CALL) == {"vm_id": 7}


@pytest.mark.parametrize("used", ["callbacks", "errbacks", "chain", "chord"])
def test_nothing_is_sent_on_for_whoever_wrote_the_message(used: str) -> None:
    body = json.dumps([[{}], {}, {used: [{"task": "vms.remove"}]}]).encode()
    assert used in (unfit(message(body)) or "")


@pytest.mark.parametrize("name", ["celery.starmap", "control.sweep", "vms.remove"])
def test_by_the_reports_come_reports_alone(name: str) -> None:
    told = message(headers={"task": name, "id": "t-1"})
    assert "may not come by exchange" in (unfit(told, {name}) or "")


@given(st.binary(max_size=300))
def test_no_body_can_stop_the_look_at_it(body: bytes) -> None:
    unfit(message(body))
    document_of(body)
    assert len(excerpt(body)) <= MOST_CHARACTERS + 1


@given(
    st.dictionaries(
        st.sampled_from(["task", "id", "eta", "timelimit", "group", "compression", "x"]),
        st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
    )
)
@example({"task": "reports.vm", "id": "t-1", "timelimit": 1})
def test_no_headers_can_stop_the_look_at_them(headers: dict[str, Any]) -> None:
    unfit(message(headers=headers), {"reports.vm"})


@pytest.mark.parametrize(
    "body",
    [
        b'[[{"user_data": "SECRET"}], {}, {}]',
        b'[[{"a": [{"root_password_hash": "SECRET"}]}]]',
        b'[[{"note": "amqp://user:SECRET@host/"}]]',
        b'[[{"tls": {"key": "SECRET"}}]]',
        b'[[{"user_data": "SECRET',
        b"Authorization: Bearer SECRET",
        b"password=SECRET",
    ],
)
def test_no_secret_is_in_an_excerpt(body: bytes) -> None:
    assert "SECRET" not in excerpt(body)


def test_an_excerpt_is_bounded_and_can_be_stored() -> None:
    deep = b"[" * 50_000 + b"]" * 50_000
    wide = json.dumps([[{"list": list(range(10_000)), "text": "x" * 10_000}]]).encode()
    for body in (deep, wide, b"\x00\xff" * 5000, b""):
        shown = excerpt(body)
        assert len(shown) <= MOST_CHARACTERS + 1
        shown.encode()
