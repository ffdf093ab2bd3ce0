"""Things that can be read now and never again: tokens, join bundles, root passwords."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse


@dataclass(frozen=True)
class Secret:
    """Something that can be read now and never again."""

    title: str
    name: str
    value: str
    explanation: str
    onward: str
    onward_label: str
    lines: int = 1


def show_secret(admin: Any, request: HttpRequest, secret: Secret) -> HttpResponse:
    """Answer the request with the secret itself: it is stored nowhere, not even in the session."""
    context = {
        **admin.admin_site.each_context(request),
        "opts": admin.model._meta,
        "title": secret.title,
        "secret": secret,
    }
    answer = TemplateResponse(request, "cloud/admin/secret.html", context)
    answer["Cache-Control"] = "no-store"
    return answer
