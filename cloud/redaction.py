"""A short excerpt of a message that went wrong, without secrets, so that it may be shown. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from cloud.logs import without_secrets

MOST_CHARACTERS: Final = 4000
_MOST_TEXT = 200
_MOST_ITEMS = 50
_SECRET = "(secret)"
# Fields of documents that hold what users hide there, and words that any other secret goes by.
_SECRET_NAME = re.compile(
    r"user_data|password|passwd|secret|token|digest|private|credential|authorization|ssh_keys"
    r"|broker_url|(^|_)key\b",
    re.I,
)


def excerpt(body: bytes) -> str:
    """What of the body may be shown.

    What is no JSON has no names to go by: it is shown up to the first word that announces a secret.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return _of_text(body)
    try:
        shown = json.dumps(_redacted(content), indent=1, ensure_ascii=False)
    except RecursionError:
        return _of_text(body)
    return _bounded(without_secrets(shown), MOST_CHARACTERS)


def _redacted(value: Any) -> Any:
    match value:
        case dict():
            return {
                _bounded(str(name), _MOST_TEXT): _SECRET
                if inner and _SECRET_NAME.search(str(name))
                else _redacted(inner)
                for name, inner in list(value.items())[:_MOST_ITEMS]
            }
        case list():
            kept = [_redacted(inner) for inner in value[:_MOST_ITEMS]]
            more = len(value) - len(kept)
            return [*kept, f"… {more} more"] if more else kept
        case str():
            return _bounded(value, _MOST_TEXT)
    return value


def _of_text(body: bytes) -> str:
    text = body[:MOST_CHARACTERS].decode("utf-8", "backslashreplace")
    announced = _SECRET_NAME.search(text)
    shown = text[: announced.start()] + "… (the rest may be secret)" if announced else text
    printable = "".join(c if c.isprintable() or c in "\n\t" else "\N{MIDDLE DOT}" for c in shown)
    return _bounded(without_secrets(printable), _MOST_TEXT)


def _bounded(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"
