"""What a person may do to rows: named operations, each behind a page that says what will happen.

An operation calls one function of an `actions` module and nothing else. It is offered as a bulk
action of the list and as a button of the row's page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.contrib import messages
from django.contrib.admin import helpers
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cloud.admin.display import Tone, list_url, page_url
from cloud.admin.secret import Secret, show_secret
from cloud.errors import CumuletError


@dataclass(frozen=True)
class Effect:
    """What an operation will do to one row; `tone` tells a refusal or a loss by its colour."""

    text: str
    tone: Tone = Tone.IDLE


Outcome = str | SafeString | Secret


@dataclass(frozen=True)
class Operation:
    """One thing to do. `permission` is Django's, `run` answers what happened in words.

    `run` raises CumuletError where the operation is refused; an answer that is a Secret is shown
    once, so it cannot be done to many rows (`bulk`). `offered` hides the button on the page of a
    row for which it makes no sense.
    """

    name: str
    verb: str
    icon: str
    permission: str
    explanation: str
    effect: Callable[[Any], Effect]
    run: Callable[[Any], Outcome]
    offered: Callable[[Any], bool] = lambda row: True
    dangerous: bool = False
    bulk: bool = True


class OperationsMixin:
    """Offers `operations` on the list and on the page of a row."""

    operations: Sequence[Operation] = ()
    model: type[Model]
    admin_site: Any

    def get_urls(self) -> list[URLPattern]:
        ours = [
            path(
                f"<int:pk>/{operation.name}/",
                self.admin_site.admin_view(partial(self.operation_view, operation=operation)),
                name=self._url_name(operation),
            )
            for operation in self.operations
        ]
        return ours + super().get_urls()  # type: ignore[misc, no-any-return]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Bulk actions of the list: our operations alone, never Django's own delete."""
        return {
            operation.name: (
                partial(_bulk, operation=operation),
                operation.name,
                f"{operation.verb} …",
            )
            for operation in self.operations
            if operation.bulk and request.user.has_perm(operation.permission)
        }

    def buttons(self, request: HttpRequest, row: Model) -> list[dict[str, Any]]:
        """The operations that the row's page offers to this person."""
        return [
            {
                "verb": operation.verb,
                "icon": operation.icon,
                "dangerous": operation.dangerous,
                "url": reverse(f"admin:{self._url_name(operation)}", args=[row.pk]),
            }
            for operation in self.operations
            if operation.offered(row) and request.user.has_perm(operation.permission)
        ]

    def operation_view(self, request: HttpRequest, pk: int, *, operation: Operation) -> Any:
        """Ask for confirmation (GET), then do it (POST) and go back to the row or the list."""
        _require(request, operation)
        row = self.get_queryset(request).filter(pk=pk).first()  # type: ignore[attr-defined]
        if row is None:
            raise Http404(f"There is no {self.model._meta.verbose_name} {pk} any more.")
        if request.method != "POST":
            return confirmation(self, request, operation, [row], back=page_url(row))
        outcome = attempt(self, request, operation, row)
        if isinstance(outcome, Secret):
            return show_secret(self, request, outcome)
        still_there = self.model._default_manager.filter(pk=pk).exists()
        return HttpResponseRedirect(page_url(row) if still_there else list_url(self.model))

    def _url_name(self, operation: Operation) -> str:
        meta = self.model._meta
        return f"{meta.app_label}_{meta.model_name}_{operation.name}"


def confirmation(
    admin: Any, request: HttpRequest, operation: Operation, rows: Sequence[Any], *, back: str
) -> HttpResponse:
    """The page that says what will happen to each row and asks for a yes."""
    meta = admin.model._meta
    subject = str(rows[0]) if len(rows) == 1 else f"{len(rows)} {meta.verbose_name_plural}"
    context = {
        **admin.admin_site.each_context(request),
        "opts": meta,
        "title": f"{operation.verb} {subject}",
        "operation": operation,
        "subject": subject,
        "lines": [(row, operation.effect(row)) for row in rows],
        "back": back,
        "bulk": request.POST.get("action", ""),
        "checkbox": helpers.ACTION_CHECKBOX_NAME,
    }
    return TemplateResponse(request, "cloud/admin/confirm.html", context)


def attempt(admin: Any, request: HttpRequest, operation: Operation, row: Any) -> Outcome | None:
    """Do it to one row and say what came of it; None if it was refused."""
    try:
        outcome = operation.run(row)
    except CumuletError as error:
        said = format_html("{}: not done. {}", operation.verb, _sentence(error.message))
        messages.error(request, said)
        return None
    admin.log_change(request, row, f"{operation.verb}.")
    if not isinstance(outcome, Secret):
        messages.success(request, outcome)
    return outcome


def _bulk(
    admin: Any, request: HttpRequest, queryset: QuerySet[Any], *, operation: Operation
) -> HttpResponse | None:
    _require(request, operation)
    rows = list(queryset)
    if "confirmed" not in request.POST:
        return confirmation(admin, request, operation, rows, back=request.get_full_path())
    for row in rows:
        attempt(admin, request, operation, row)
    return None


def _require(request: HttpRequest, operation: Operation) -> None:
    if not request.user.has_perm(operation.permission):
        raise PermissionDenied


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
