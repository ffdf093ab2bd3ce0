"""Serves the OpenAPI document to everybody. It never changes, so each process makes it once."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request

_making = threading.Lock()


class Document(SpectacularAPIView):
    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        renderer: Any = type(request.accepted_renderer)
        with _making:
            content = _rendered(renderer)
        return HttpResponse(content, content_type=renderer.media_type)


@cache
def _rendered(renderer: Any) -> Any:
    return renderer().render(_document(), renderer_context={})


@cache
def _document() -> Any:
    generator: Any = SchemaGenerator
    return generator().get_schema(request=None, public=True)
