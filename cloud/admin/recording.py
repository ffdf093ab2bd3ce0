"""Forms of the admin that save rows themselves, and leave the audit entry that actions leave.

Few rows are saved so: those that describe the cloud, and its administrators. Reading the row
once more before it is saved costs a query, which only people at a form pay.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.views import PasswordChangeView
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest
from django.urls import reverse_lazy
from unfold.forms import AdminOwnPasswordChangeForm, AdminPasswordChangeForm

from cloud.audit import changed, changing, created
from cloud.snapshots import snapshot


class RecordedForms:
    """For a ModelAdmin. Django calls all of these in the transaction of the form."""

    def save_model(self, request: HttpRequest, row: Model, form: Any, change: bool) -> None:
        rows = type(row)._default_manager.select_for_update()
        before = rows.filter(pk=row.pk).first() if change else None
        if change and before is None:
            raise Http404(f"There is no {row._meta.verbose_name} {row.pk} any more.")
        form.before = snapshot(before) if before else None
        super().save_model(request, row, form, change)  # type: ignore[misc]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)  # type: ignore[misc]
        if change:
            changed(form.instance, form.before)
        else:
            created(form.instance)

    def delete_model(self, request: HttpRequest, row: Model) -> None:
        with changing(row, "delete"):
            super().delete_model(request, row)  # type: ignore[misc]

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for row in queryset:
                self.delete_model(request, row)


class RecordedPassword:
    """For a form that sets the password of its `user`."""

    user: Any

    def save(self, commit: bool = True) -> Any:
        with transaction.atomic(), changing(self.user, "change_password"):
            return super().save(commit)  # type: ignore[misc]


class PasswordForm(RecordedPassword, AdminPasswordChangeForm):
    """For the password of another administrator."""


class OwnPasswordForm(RecordedPassword, AdminOwnPasswordChangeForm):
    """For one's own password, with the old one."""


class OwnPassword(PasswordChangeView):
    """The theme's page with our form, which the theme gives no way to set."""

    form_class = OwnPasswordForm
    success_url = reverse_lazy("admin:password_change_done")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_context_data(**kwargs), **admin.site.each_context(self.request)}
