"""API tokens: shown once, stored as a digest."""

from __future__ import annotations

import hashlib
import secrets

from django.db import transaction
from django.utils import timezone

from cloud.audit import created, write
from cloud.constraints import refused_by
from cloud.errors import NotUnique
from cloud.models import ApiToken, Project

# Clients of the contract refuse tokens of any other length.
TOKEN_LENGTH = 64


def issue_token(
    project: Project,
    name: str,
    *,
    read_only: bool = False,
    operator: bool = False,
    requests_per_hour: int | None = None,
) -> str:
    """A new token's secret, which nobody can read again; raises NotUnique.

    `requests_per_hour`: its own limit, None: that of all tokens.
    """
    secret = secrets.token_hex(TOKEN_LENGTH // 2)
    taken = NotUnique("name", f"project {project} already has a token '{name}'")
    with refused_by({"api_token_name_unique": taken}), transaction.atomic():
        token = ApiToken.objects.create(
            project=project,
            name=name,
            digest=_digest(secret),
            read_only=read_only,
            operator=operator,
            requests_per_hour=requests_per_hour,
        )
        created(token, "issue")
    return secret


def find_token(secret: str) -> ApiToken | None:
    """The usable token with this secret.

    No comparison here takes its time by how many characters are right: the database compares
    digests, and whoever could measure how much of one was right would still have to find a secret
    with that digest.
    """
    return ApiToken.objects.usable().filter(digest=_digest(secret)).first()


def note_use(token: ApiToken) -> None:
    """Remember that the token was used, at most once a minute."""
    now = timezone.now()
    if token.last_used is None or (now - token.last_used).total_seconds() > 60:
        ApiToken.objects.due_for_touch(now).filter(pk=token.pk).update(last_used=now)


def revoke_token(token: ApiToken) -> None:
    """End the token now; the row stays, so that its use can be explained later.

    Raises Conflict if another request did so meanwhile.
    """
    if token.revoked_at is None:
        write(token, {"revoked_at": timezone.now()}, "revoke")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
