"""The shape of every page of the admin: facts to read, named operations to change them.

Nothing here saves a row. Rows change through `Operation`s and through forms whose `submit` calls
an actions module (`cloud.admin.forms`).
"""

from __future__ import annotations

from typing import Any

from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin

from cloud.admin.operations import OperationsMixin
from cloud.admin.page import Page


class FactsAdmin(OperationsMixin, ModelAdmin):
    """Lists rows and shows each as a `Page`; read-only but for its operations."""

    change_list_template = "cloud/admin/list.html"
    change_form_template = "cloud/admin/facts.html"
    list_per_page = 50
    # Confirmation pages name every row, so only rows that were seen can be chosen.
    list_disable_select_all = True
    # What an empty list says: title, sentence, and a command that would fill it.
    empty_list: tuple[str, str, str] = ("Nothing here yet", "", "")
    add_label = ""
    # Seconds until the moving parts of the list are read again.
    list_reload_seconds = 0

    def page(self, request: HttpRequest, row: Any) -> Page:
        """The row in words."""
        raise NotImplementedError

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> list[Any]:
        return []

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = kwargs.get("obj")
        if row is not None:
            context["page"] = self.page(request, row)
            # The page says the name itself; as a row the theme would capitalize it above.
            context["original"] = ""
            context["buttons"] = self.buttons(request, row)
        answer: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return answer
