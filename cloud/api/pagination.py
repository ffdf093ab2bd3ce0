"""Pages of a list, and the `meta` that tells clients how to go on."""

from __future__ import annotations

from typing import Any

from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cloud.errors import invalid

DEFAULT_PER_PAGE = 25
MAX_PER_PAGE = 50


class Pages(BasePagination):
    """`page` counts from 1; `per_page` above the maximum is cut, not refused."""

    meta: dict[str, Any]

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any]:
        page = _number(request, "page", 1)
        per_page = min(_number(request, "per_page", DEFAULT_PER_PAGE), MAX_PER_PAGE)
        total = queryset.count()
        last = max(1, -(-total // per_page))
        # Exactly these keys: a client in Python fails on any other.
        self.meta = {
            "pagination": {
                "page": page,
                "per_page": per_page,
                "previous_page": page - 1 if page > 1 else None,
                "next_page": page + 1 if page < last else None,
                "last_page": last,
                "total_entries": total,
            }
        }
        start = (page - 1) * per_page
        return list(queryset[start : start + per_page]) if start < total else []

    def get_paginated_response(self, data: Any) -> Response:
        return Response({**data, "meta": self.meta})

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "in": "query",
                "schema": {"type": "integer", "minimum": 1, "default": default},
                "description": text,
            }
            for name, default, text in (
                ("page", 1, "Page, from 1."),
                ("per_page", DEFAULT_PER_PAGE, f"Entries a page, at most {MAX_PER_PAGE}."),
            )
        ]


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    # 15 digits fit every integer on the way; longer ones are no page.
    if not (text.isascii() and text.isdigit() and len(text) <= 15 and int(text) >= 1):
        raise invalid(name, f"{text!r} is not a whole number from 1")
    return int(text)
