"""What a Scope allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from cloud.api.authentication import scope_of
from cloud.api.errors import Forbidden, ReadOnlyToken

if TYPE_CHECKING:  # rest_framework.views itself loads this module, as a default of its settings
    from rest_framework.views import APIView


class InProject(BasePermission):
    """Reads for every token, writes for those that are not read-only."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        scope = scope_of(request)
        if scope is None:
            return False
        if request.method not in SAFE_METHODS and not scope.may_write:
            raise ReadOnlyToken("this token may only read: use one that may write")
        return True


class IsOperator(BasePermission):
    """For what concerns the cloud as a whole."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        scope = scope_of(request)
        if scope is not None and not scope.operator:
            raise Forbidden("this needs a token of an operator: see `manage.py token_add`")
        return True
