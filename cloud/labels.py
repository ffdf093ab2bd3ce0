"""Labels and label selectors of the API contract: validation and the selector's grammar.

A selector is terms joined by commas, all of which must hold: `k`, `!k`, `k=v`, `k==v`, `k!=v`,
`k in (a,b)`, `k notin (a,b)`. Pure; `cloud.querysets` turns terms into SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from cloud.errors import invalid

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_DNS_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_KEY = re.compile(rf"(?:(?P<prefix>{_DNS_LABEL}(?:\.{_DNS_LABEL})*)/)?{_NAME}\Z")
_VALUE = re.compile(rf"(?:{_NAME})?\Z")
_TERM = re.compile(
    r"\s*(?:"
    r"(?P<absent>!)\s*(?P<absent_key>[^\s,!=()]+)"
    r"|(?P<set_key>[^\s,!=()]+)\s+(?P<set_op>in|notin)\s*\((?P<values>[^()]*)\)"
    r"|(?P<key>[^\s,!=()]+)\s*(?:(?P<op>==|=|!=)\s*(?P<value>[^\s,!=()]*))?"
    r")\s*(?:,|\Z)"
)

Operator = Literal["exists", "absent", "in", "notin"]


@dataclass(frozen=True)
class Term:
    """One condition on one key; `values` is empty for `exists` and `absent`."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()


def check_labels(labels: object) -> dict[str, str]:
    """The labels as a map of strings; raises InvalidInput naming the first bad key or value."""
    if not isinstance(labels, dict):
        raise invalid("labels", "must be an object whose keys and values are strings")
    for key, value in labels.items():
        _check_key(key)
        if not isinstance(value, str) or not _VALUE.match(value):
            raise invalid(
                "labels", f"value {value!r} of {key!r} must be up to 63 of [A-Za-z0-9._-]"
            )
    return labels


def parse_selector(text: str) -> tuple[Term, ...]:
    """The selector's terms in order; raises InvalidInput where it is malformed."""
    terms: list[Term] = []
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if not match:
            raise invalid("label_selector", f"cannot read {text[position:]!r}")
        terms.append(_term(match))
        position = match.end()
    if text.rstrip().endswith(","):
        raise invalid("label_selector", "ends with a comma: remove it or add a term")
    return tuple(terms)


def meets(labels: Mapping[str, str], terms: Iterable[Term]) -> bool:
    """Whether the labels meet all terms, as `LabelledQuerySet.matching` decides it in SQL."""
    return all(_holds(term, labels) for term in terms)


def _holds(term: Term, labels: Mapping[str, str]) -> bool:
    match term.operator:
        case "exists":
            return term.key in labels
        case "absent":
            return term.key not in labels
        case "in":
            return labels.get(term.key) in term.values
        case "notin":
            return labels.get(term.key) not in term.values


def _term(match: re.Match[str]) -> Term:
    if match["absent"]:
        return Term(_selector_key(match["absent_key"]), "absent")
    if match["set_op"]:
        values = tuple(_selector_value(value.strip()) for value in match["values"].split(","))
        operator: Operator = "in" if match["set_op"] == "in" else "notin"
        return Term(_selector_key(match["set_key"]), operator, values)
    key = _selector_key(match["key"])
    if match["op"] is None:
        return Term(key, "exists")
    return Term(key, "notin" if match["op"] == "!=" else "in", (_selector_value(match["value"]),))


def _check_key(key: object) -> None:
    match = _KEY.match(key) if isinstance(key, str) else None
    if not match or len(match["prefix"] or "") > 253:
        raise invalid("labels", f"key {key!r} must be [DNS prefix/]name, name up to 63 characters")


def _selector_key(key: str) -> str:
    if not _KEY.match(key):
        raise invalid("label_selector", f"{key!r} is not a label key")
    return key


def _selector_value(value: str) -> str:
    if not _VALUE.match(value):
        raise invalid("label_selector", f"{value!r} is not a label value")
    return value
