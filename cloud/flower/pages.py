"""What Flower's pages say beyond Flower itself: which request a task belongs to.

Both apps send `request_id=ID` as the readable form of a message's keyword arguments, which no
task of ours has. Flower shows and searches that text; `templates/` make links of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flower
from tornado.template import BaseLoader, Template

from cloud import requestid

_OURS = Path(__file__).parent / "templates"
_THEIRS = Path(flower.__file__).parent / "templates"
_THEIR_PREFIX = "flower/"


class Templates(BaseLoader):
    """Our templates first; they extend Flower's own as `flower/NAME`."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        super().__init__(namespace={"request_of": request_of, **namespace})

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:
        """All templates lie in one directory, so a name is a path."""
        return name

    def _create_template(self, name: str) -> Template:
        path = _OURS / name
        if not path.is_file():
            path = _THEIRS / name.removeprefix(_THEIR_PREFIX)
        return Template(path.read_bytes(), name=name, loader=self)


def request_of(kwargs: object) -> str | None:
    """The request id in a task's keyword arguments as Flower knows them; None without one."""
    name, _, request_id = str(kwargs).partition("=")
    return request_id if name == requestid.HEADER and requestid.is_usable(request_id) else None
