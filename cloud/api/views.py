"""Base classes of all views of the API.

A view finds objects inside the caller's project, calls one function of `actions.py` or the
like, and shows the result under the contract's keys. It writes nothing itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from django.db.models import Model, QuerySet
from django.http import HttpRequest
from rest_framework.exceptions import NotAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from cloud.actor import become
from cloud.api.authentication import scope_of
from cloud.api.pagination import Pages
from cloud.api.throttling import take, untouched
from cloud.buckets import Level, headers
from cloud.errors import NotFound, Unsupported
from cloud.models import Project

ModelT = TypeVar("ModelT", bound=Model)


class ContractView(APIView):
    """Counts the request for its token, and says on every answer what is left."""

    http_method_names = ["get", "post", "put", "delete", "head"]
    rate: Level | None = None

    @property
    def project(self) -> Project:
        """The caller's project."""
        scope = scope_of(self.request)
        if scope is None:
            raise NotAuthenticated
        return scope.project

    def perform_authentication(self, request: Request) -> None:
        super().perform_authentication(request)
        if scope := scope_of(request):
            become(scope.actor)

    def check_throttles(self, request: Request) -> None:
        if scope := scope_of(request):
            self.rate = take(scope.actor, scope.requests_per_hour)
            if not self.rate.allowed:
                self.throttled(request, self.rate.wait)

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        self.headers.update(headers(self.rate or untouched(), time.time()))
        return super().finalize_response(request, response, *args, **kwargs)


class Collection(ContractView, GenericViewSet[ModelT]):
    """The objects of one kind that the caller may see.

    `singular` and `plural` wrap objects in answers. `requests` names the serializer of the body
    for each view method that reads one; `serializer_class` is how an object is shown;
    `sort_columns` names what is sorted by, where that is called otherwise than its key. Not
    `always_paged`: there is a way to ask for objects that are answered without pages.
    """

    singular: ClassVar[str]
    plural: ClassVar[str]
    sort_keys: ClassVar[tuple[str, ...]] = ()
    sort_columns: ClassVar[Mapping[str, str]] = {}
    always_paged: ClassVar[bool] = True
    requests: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {}
    serializer_class: type[BaseSerializer[Any]]

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return self.requests.get(self.action or "", self.serializer_class)

    def list(self, request: Request, **kwargs: Any) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.listed())) or []
        shown = self.serializer_class(page, many=True, context=self.answer_context()).data
        return self.get_paginated_response({self.plural: shown})

    def retrieve(self, request: Request, pk: int, **kwargs: Any) -> Response:
        return Response({self.singular: self.show(self.find(pk))})

    def listed(self) -> QuerySet[ModelT]:
        """Lists may hide what can still be found by its id."""
        return self.get_queryset()

    def find(self, pk: int) -> ModelT:
        """The object if it exists and the caller may see it; raises NotFound."""
        found = self.get_queryset().filter(pk=pk).first()
        if found is None:
            raise NotFound(f"{self.singular} with ID '{pk}' not found")
        return found

    def show(self, instance: ModelT) -> Any:
        return self.serializer_class(instance, context=self.answer_context()).data

    def body(self) -> dict[str, Any]:
        """The request's body, checked; raises ValidationError or InvalidInput."""
        serializer = self.get_serializer_class()(
            data=self.request.data, context={"project": self.project}
        )
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def answer_context(self) -> dict[str, Any]:
        """What serializers share within one answer."""
        return {"request": self.request}


class NotOffered(ContractView):
    """A resource of the contract that this cloud does not have: empty to read, not to write."""

    schema = None
    plural: str = ""

    def get(self, request: Request, rest: str = "") -> Response:
        if rest:
            raise NotFound(f"{self.plural}/{rest} not found: this cloud has none")
        pages = Pages()
        nothing = pages.paginate_queryset(Project.objects.none(), request)
        return pages.get_paginated_response({self.plural: nothing})

    def post(self, request: Request, rest: str = "") -> Response:
        raise Unsupported(f"this cloud does not offer {self.plural.replace('_', ' ')}")

    put = delete = post


class UnknownRoute(ContractView):
    """Whatever the contract does not know, in the contract's words."""

    permission_classes = []
    schema = None

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        """No method is allowed, because there is nothing."""
        raise NotFound(f"no such path: {request.path}")
