"""Who asks: a project's bearer token, or a member of the admin staff with a session.

Both end in a `Scope`, the only thing that views and permissions look at.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from cloud.actor import Actor, Kind
from cloud.models import Project
from cloud.tokens import find_token, note_use

_REFUSED = "unable to authenticate: send 'Authorization: Bearer TOKEN' with a token in use"


@dataclass(frozen=True)
class Scope:
    """What the caller may see and do; it is `request.auth`."""

    project: Project
    may_write: bool
    operator: bool
    actor: Actor
    requests_per_hour: int | None = None


def scope_of(request: Request) -> Scope | None:
    """The caller's scope; None before or without authentication."""
    found: object = request.auth
    return found if isinstance(found, Scope) else None


class BearerToken(BaseAuthentication):
    """`Authorization: Bearer TOKEN`."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, Scope] | None:
        header = request.headers.get("Authorization")
        if header is None:
            return None
        scheme, _, secret = header.partition(" ")
        token = find_token(secret.strip()) if scheme.lower() == "bearer" else None
        if token is None:
            raise AuthenticationFailed(_REFUSED)
        note_use(token)
        scope = Scope(
            token.project,
            may_write=not token.read_only,
            operator=token.operator,
            actor=Actor(Kind.TOKEN, str(token), token.pk),
            requests_per_hour=token.requests_per_hour,
        )
        return AnonymousUser(), scope

    def authenticate_header(self, request: Request) -> str:
        # Without it DRF would answer 403 instead of 401.
        return 'Bearer realm="api"'


class StaffSession(SessionAuthentication):
    """Staff logged in to the admin, for the browsable API; writes need the CSRF token.

    They act in the project that `?project=NAME` chose last, at first in the oldest one. What they
    may see and do there is what their permissions in the admin allow: see `InProject`.
    """

    def authenticate(self, request: Request) -> tuple[AbstractBaseUser, Scope] | None:
        found = super().authenticate(request)
        if found is None or not found[0].is_staff:
            return None
        user = found[0]
        project = self._project(request)
        scope = Scope(
            project,
            may_write=True,
            operator=True,
            actor=Actor(Kind.USER, user.get_username(), user.pk),
        )
        return user, scope

    def _project(self, request: Request) -> Project:
        projects = Project.objects.order_by("pk")
        asked = request.query_params.get("project")
        name = asked or request.session.get("api_project")
        project = projects.filter(name=name).first() if name else projects.first()
        if project is None:
            raise AuthenticationFailed("choose a project that exists with ?project=NAME")
        if asked:
            request.session["api_project"] = asked
        return project
