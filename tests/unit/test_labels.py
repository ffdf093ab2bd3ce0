"""Labels and selectors: what is legal, and how selectors are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.errors import InvalidInput
from cloud.labels import Term, check_labels, meets, parse_selector


@pytest.mark.parametrize(
    ("selector", "terms"),
    [
        ("", ()),
        ("env", (Term("env", "exists"),)),
        ("!env", (Term("env", "absent"),)),
        ("env=prod", (Term("env", "in", ("prod",)),)),
        ("env==prod", (Term("env", "in", ("prod",)),)),
        ("env=", (Term("env", "in", ("",)),)),
        ("env!=prod", (Term("env", "notin", ("prod",)),)),
        ("env in (a,b)", (Term("env", "in", ("a", "b")),)),
        ("env notin (a, b)", (Term("env", "notin", ("a", "b")),)),
        ("in in (in)", (Term("in", "in", ("in",)),)),
        ("example.com/app=web", (Term("example.com/app", "in", ("web",)),)),
        (" env = prod , !old ", (Term("env", "in", ("prod",)), Term("old", "absent"))),
        (
            "a,b in (c,d),e!=f",
            (Term("a", "exists"), Term("b", "in", ("c", "d")), Term("e", "notin", ("f",))),
        ),
    ],
)
def test_a_selector_is_read(selector: str, terms: tuple[Term, ...]) -> None:
    assert parse_selector(selector) == terms


@pytest.mark.parametrize(
    "selector",
    ["=", "!", ",", "a,", "a,,b", "a=b=c", "a in b", "a in (b", "a in b)", "a b", "a=!b", "-a",
     "a=-b", "!a=b", "a in ((b))", "a\x00", "a=\x00", "ä=b", "a" * 64, "a!b"],
)  # fmt: skip
def test_a_malformed_selector_is_refused(selector: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_selector(selector)
    assert refused.value.details is not None
    (field,) = refused.value.details["fields"]
    assert field["name"] == "label_selector"


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        terms = parse_selector(text)
    except InvalidInput:
        return
    assert all(term.key for term in terms)


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"a": ""},
        {"a": "b"},
        {"A.b_c-d": "1.2_3-4"},
        {"example.com/name": "value"},
        {"a" * 63: "b" * 63},
        {f"{'a' * 63}.{'b' * 63}/c": "d"},
    ],
)
def test_legal_labels_are_kept(labels: dict[str, str]) -> None:
    assert check_labels(labels) == labels


@pytest.mark.parametrize(
    "labels",
    [
        None,
        [],
        "a=b",
        {"": "a"},
        {"-a": "b"},
        {"a-": "b"},
        {"a" * 64: "b"},
        {"a": "b" * 64},
        {"a": "-b"},
        {"a": None},
        {"a": 1},
        {"a": "ä"},
        {"/a": "b"},
        {"UPPER.example/a": "b"},
        {f"{'.'.join(['a' * 63] * 4)}/b": "c"},
        {"a\n": "b"},
        {"a": "b\n"},
    ],
)
def test_illegal_labels_are_refused(labels: object) -> None:
    with pytest.raises(InvalidInput):
        check_labels(labels)


@pytest.mark.parametrize(
    ("selector", "met"),
    [
        ("env", True),
        ("!env", False),
        ("tier", False),
        ("!tier", True),
        ("env=prod", True),
        ("env=test", False),
        ("env!=test", True),
        ("tier!=web", True),
        ("env in (test,prod)", True),
        ("tier in (web)", False),
        ("env notin (test,prod)", False),
        ("env=prod,!tier", True),
        ("env=prod,tier", False),
    ],
)
def test_labels_meet_a_selector_or_not(selector: str, met: bool) -> None:
    assert meets({"env": "prod"}, parse_selector(selector)) is met
