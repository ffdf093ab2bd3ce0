"""Request bodies: always a JSON object, whatever label it arrives under.

POST actions arrive without a body, with `{}`, or with an empty body labelled JSON; all mean the
same. Answers are JSON unless a browser asks for a page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer, JSONRenderer
from rest_framework.request import Request

from cloud.api.errors import BadJson


class JsonObject(BaseParser):
    """Parses one JSON object."""

    media_type = "application/json"
    renderer_class = JSONRenderer  # fills the form of the browsable API

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        # `request.body` has a size limit (DATA_UPLOAD_MAX_MEMORY_SIZE), reading the stream none.
        text = (parser_context or {})["request"].body
        if not text.strip():
            return {}
        try:
            data = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise BadJson(f"the body is not valid JSON: {error}") from error
        if not isinstance(data, dict):
            raise BadJson("the body must be a JSON object")
        return data


class Page(BrowsableAPIRenderer):
    """The browsable API, for people."""

    template = "cloud/api.html"
    resources = (
        "servers",
        "primary_ips",
        "floating_ips",
        "firewalls",
        "networks",
        "actions",
        "images",
        "ssh_keys",
        "server_types",
        "locations",
        "hosts",
        "audit",
    )

    def get_context(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        ours = {"login_url": settings.LOGIN_URL, "resources": self.resources}
        return {**super().get_context(*args, **kwargs), **ours}


class JsonFirst(DefaultContentNegotiation):
    """Never refuses for a media type: parses everything as JSON, answers in JSON if in doubt."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        try:
            chosen: tuple[BaseRenderer, str] = super().select_renderer(
                request, renderers, format_suffix
            )
            return chosen
        except NotAcceptable:
            first = next(iter(renderers))
            return first, str(first.media_type)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
