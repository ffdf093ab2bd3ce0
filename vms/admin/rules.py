"""Firewall rules in forms: a row for each rule. What they may say is checked by their module."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from cloud.errors import InvalidInput
from networks.firewalls.rules import DIRECTIONS, PROTOCOLS, Rule, check_rules, networks_of

EVERYWHERE = "0.0.0.0/0 ::/0"

Row = Mapping[str, str]

_COLUMNS = ("direction", "protocol", "port", "networks", "description")
_BLANK: Row = {"direction": "in", "protocol": "tcp", "port": "", "networks": "", "description": ""}
_PRESETS: Mapping[str, Row] = {
    "SSH": {**_BLANK, "port": "22", "networks": EVERYWHERE, "description": "SSH"},
    "HTTP": {**_BLANK, "port": "80", "networks": EVERYWHERE, "description": "HTTP"},
    "HTTPS": {**_BLANK, "port": "443", "networks": EVERYWHERE, "description": "HTTPS"},
    "Ping": {**_BLANK, "protocol": "icmp", "networks": EVERYWHERE, "description": "ping"},
    "Another rule": _BLANK,
}


class RuleRows(forms.Widget):
    """Rows to fill in; the page's script adds and drops some, and without it one is left blank."""

    template_name = "cloud/admin/rules.html"

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        return {
            **super().get_context(name, value, attrs),
            "rows": [*(value or ()), _BLANK],
            "blank": _BLANK,
            "presets": [
                {"label": label, "json": json.dumps(_PRESETS[label])} for label in _PRESETS
            ],
            "directions": DIRECTIONS,
            "protocols": PROTOCOLS,
        }

    def format_value(self, value: Any) -> Any:
        return value

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[Row]:
        """All rows but those in which nothing was written."""
        columns = (data.getlist(f"{name}-{column}") for column in _COLUMNS)
        rows = [dict(zip(_COLUMNS, texts, strict=True)) for texts in zip(*columns, strict=False)]
        written = ("port", "networks", "description")
        return [row for row in rows if any(row[column].strip() for column in written)]


class RulesField(forms.Field):
    """Rules in the contract's form."""

    widget = RuleRows

    def prepare_value(self, value: Any) -> Any:
        return [_row(rule) if "networks" not in rule else rule for rule in value or ()]

    def clean(self, value: Any) -> list[Rule]:
        try:
            return check_rules([_document(row) for row in value])
        except InvalidInput as error:
            fields = (error.details or {})["fields"]
            raise ValidationError(
                [f"{_place(field['name'])} {field['messages'][0]}" for field in fields]
            ) from error


def _row(rule: Rule) -> Row:
    return {
        "direction": rule["direction"],
        "protocol": rule["protocol"],
        "port": rule["port"] or "",
        "networks": " ".join(networks_of(rule)),
        "description": rule["description"] or "",
    }


def _document(row: Row) -> dict[str, Any]:
    networks = [text for text in re.split(r"[\s,]+", row["networks"]) if text]
    side = "destination_ips" if row["direction"] == "out" else "source_ips"
    return {
        "direction": row["direction"],
        "protocol": row["protocol"],
        "port": row["port"].strip() or None,
        side: networks,
        "description": row["description"].strip() or None,
    }


def _place(name: str) -> str:
    """Where in the form it is: "rules.0.source_ips.1" is network 2 of rule 1."""
    match name.split("."):
        case [_, rule, _, network]:
            return f"Rule {int(rule) + 1}, network {int(network) + 1}:"
        case [_, rule, "source_ips" | "destination_ips"]:
            return f"Rule {int(rule) + 1}, networks:"
        case [_, rule, key]:
            return f"Rule {int(rule) + 1}, {key}:"
        case _:
            return "The rules"
