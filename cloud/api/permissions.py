"""What a Scope allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import get_permission_codename
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from cloud.actor import Kind
from cloud.api.authentication import scope_of
from cloud.api.errors import Forbidden, ReadOnlyToken

if TYPE_CHECKING:  # rest_framework.views itself loads this module, as a default of its settings
    from rest_framework.views import APIView


class InProject(BasePermission):
    """For tokens: reads for every one, writes for those that are not read-only.

    People need the permission that the admin asks them for, too: to view, add, change or delete
    what the view is about. An action on an object changes it. What is about no rows is everybody's.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        scope = scope_of(request)
        if scope is None:
            return False
        if scope.actor.kind is Kind.USER:
            needed = _needed(request, view)
            if needed is not None and not request.user.has_perm(needed):
                # In DRF's words, so that its pages leave out the forms that this refuses.
                raise PermissionDenied(f"this needs the permission {needed}: ask an administrator")
        elif request.method not in SAFE_METHODS and not scope.may_write:
            raise ReadOnlyToken("this token may only read: use one that may write")
        return True


def _needed(request: Request, view: APIView) -> str | None:
    """Django's permission for this method and the model of the view."""
    rows = getattr(view, "queryset", None)
    if rows is None:
        return None
    if request.method in SAFE_METHODS:
        verb = "view"
    elif request.method == "DELETE":
        verb = "delete"
    else:
        verb = "add" if getattr(view, "action", None) == "create" else "change"
    meta = rows.model._meta
    return f"{meta.app_label}.{get_permission_codename(verb, meta)}"


class IsOperator(BasePermission):
    """For what concerns the cloud as a whole; of people `InProject` asks enough."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        scope = scope_of(request)
        if scope is not None and not scope.operator:
            raise Forbidden("this needs a token of an operator: see `manage.py token_add`")
        return True
