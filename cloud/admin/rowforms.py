"""Forms about one row: each at its own address below the row's page, with a button there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.urls import URLPattern, path, reverse

from cloud.admin.display import page_url
from cloud.admin.forms import FormPage, OrderForm, Section, answer_form, done


@dataclass(frozen=True)
class Entry:
    """Where a form is found: the last part of its address, and its button."""

    name: str
    verb: str
    icon: str


@dataclass(frozen=True)
class RowForm:
    """`change` does what the cleaned data asks, and says what was done."""

    form: OrderForm
    title: str
    section: Section
    change: Callable[[dict[str, Any]], str]
    note: str = ""


RENAME = Entry("rename", "Rename or label", "edit")


class RowFormsMixin:
    """For a `FactsAdmin`, before it. Whoever may change such rows may use the forms."""

    row_forms: ClassVar[tuple[Entry, ...]] = ()
    admin_site: Any
    opts: Any

    def row_form(self, row: Any, name: str, sent: QueryDict | None) -> RowForm:
        """The form of that name about the row, with what was sent, if anything was."""
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        ours = [
            path(
                f"<int:pk>/{entry.name}/",
                self.admin_site.admin_view(partial(self.row_form_view, name=entry.name)),
                name=self._form_url_name(entry),
            )
            for entry in self.row_forms
        ]
        return [*ours, *super().get_urls()]  # type: ignore[misc]

    def form_buttons(self, request: HttpRequest, row: Model) -> list[dict[str, Any]]:
        if not request.user.has_perm(self._permission):
            return []
        return [
            {
                "verb": entry.verb,
                "icon": entry.icon,
                "dangerous": False,
                "url": reverse(f"admin:{self._form_url_name(entry)}", args=[row.pk]),
            }
            for entry in self.row_forms
        ]

    def buttons(self, request: HttpRequest, row: Any) -> list[dict[str, Any]]:
        return [*self.form_buttons(request, row), *super().buttons(request, row)]  # type: ignore[misc]

    def row_form_view(self, request: HttpRequest, pk: int, *, name: str) -> HttpResponse:
        row = self.get_object(request, str(pk))  # type: ignore[attr-defined]
        if row is None:
            raise Http404(f"There is no {self.opts.verbose_name} {pk} any more.")
        asked = self.row_form(row, name, request.POST or None)

        def submit(data: dict[str, Any]) -> HttpResponse:
            said = asked.change(data)
            self.log_change(request, row, said)  # type: ignore[attr-defined]
            return done(request, said, page_url(row))

        page = FormPage(
            title=asked.title,
            sections=(asked.section,),
            button="Save",
            permission=self._permission,
            submit=submit,
            back=page_url(row),
            note=asked.note,
        )
        return answer_form(self, request, asked.form, page)

    @property
    def _permission(self) -> str:
        return f"{self.opts.app_label}.change_{self.opts.model_name}"

    def _form_url_name(self, entry: Entry) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{entry.name}"
