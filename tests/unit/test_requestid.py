"""Which id a request gets."""

from __future__ import annotations

import uuid

import pytest

from cloud import requestid

AMAZON = "Self=1-67891234-12456789abcdef012345678;Root=1-67891233-abcdef012345678912345678"

pytestmark = pytest.mark.trace


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({"X-Request-ID": "a", "X-Correlation-ID": "b", "X-Amzn-Trace-Id": "Root=c"}, "a"),
        ({"X-Correlation-ID": "b", "X-Amzn-Trace-Id": "Root=c"}, "b"),
        ({"X-Amzn-Trace-Id": AMAZON}, "1-67891234-12456789abcdef012345678"),
        ({"X-Amzn-Trace-Id": "Root=1-2-3; Self=4-5-6"}, "4-5-6"),
        ({"X-Amzn-Trace-Id": " Root = 1-2-3 ;; Sampled=1;Lineage=a:b "}, "1-2-3"),
        ({"X-Request-ID": "x" * 128}, "x" * 128),
        ({"X-Request-ID": "", "X-Correlation-ID": "b"}, "b"),
        ({"X-Request-ID": "AZaz09._:=;/+-"}, "AZaz09._:=;/+-"),
    ],
)
def test_the_first_header_that_is_there_is_taken(headers: dict[str, str], taken: str) -> None:
    assert requestid.take(headers) == taken


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Request-ID": ""},
        {"X-Request-ID": "x" * 129},
        {"X-Request-ID": "a\nb"},
        {"X-Request-ID": "a\n"},
        {"X-Request-ID": "<script>"},
        {"X-Amzn-Trace-Id": "nonsense"},
        {"X-Amzn-Trace-Id": "Self="},
        {"X-Amzn-Trace-Id": "Sampled=1"},
        {"X-Amzn-Trace-Id": "Self=a b"},
        {"X-Request-ID": "a,b"},
        {"X-Request-ID": "späť"},
        {"X-Request-ID": "not this one", "X-Correlation-ID": "and-not-this"},
    ],
)
def test_without_a_usable_header_a_uuid_is_made(headers: dict[str, str]) -> None:
    made = requestid.take(headers)
    assert uuid.UUID(made).version == 4
    assert made != requestid.take(headers)


def test_the_id_is_known_inside_the_request_only() -> None:
    with requestid.bound("one"):
        with requestid.bound("two"):
            assert requestid.current() == "two"
        assert requestid.current() == "one"
    assert requestid.current() is None
