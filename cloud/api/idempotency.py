"""Writes that arrive twice have one effect: the `Idempotency-Key` header.

The key is stored in the transaction of the write. A second request with the same key waits for
the first one at the unique index, then gets the first answer. A refused request rolls back and
leaves no key, so it may be repeated once its cause is mended.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.db import transaction
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder

from cloud.api.views import ContractView
from cloud.errors import CumuletError, invalid
from cloud.models import IdempotencyKey

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"

Handler = Callable[..., Response]


class KeyReused(CumuletError):
    """The key belongs to another request (HTTP 409).

    Not `conflict`: old clients repeat that one for ever.
    """

    code = "idempotency_key_reused"
    status = 409


def once(handler: Handler) -> Handler:
    """Makes a view's write handler idempotent for callers that send a key.

    Without a key the action's own transaction is enough, and commits before the answer is put
    together: hosts hear of it 10 ms sooner, and no row stays locked meanwhile.
    """

    @wraps(handler)
    def answer(view: ContractView, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = request.headers.get(HEADER)
        if key is None:
            return handler(view, request, *args, **kwargs)
        with transaction.atomic():
            stored, new = _claim(view, request, key)
            if not new:
                return Response(_opened(stored), stored.status, headers={REPLAYED: "true"})
            response = handler(view, request, *args, **kwargs)
            stored.status = response.status_code
            stored.response = _sealed(response.data)
            stored.save(update_fields=["status", "response"])
            return response

    answer.idempotent = True  # type: ignore[attr-defined]
    return answer


def _claim(view: ContractView, request: Request, key: str) -> tuple[IdempotencyKey, bool]:
    if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise invalid(HEADER, "must be 1 to 255 printable ASCII characters")
    body = request._request.body
    fingerprint = hashlib.sha256(
        b"%s %s\n%s" % (str(request.method).encode(), request.get_full_path().encode(), body)
    ).hexdigest()
    stored, new = IdempotencyKey.objects.get_or_create(
        project=view.project, key=key, defaults={"fingerprint": fingerprint}
    )
    if stored.fingerprint != fingerprint:
        raise KeyReused(f"{HEADER} {key!r} was used for another request: take a new key")
    return stored, new


def _cipher() -> Fernet:
    """Answers may hold a generated root password, so they are stored encrypted."""
    secret = f"idempotency:{settings.SECRET_KEY}".encode()
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(secret).digest()))


def _sealed(data: object) -> str:
    return _cipher().encrypt(json.dumps(data, cls=JSONEncoder).encode()).decode()


def _opened(stored: IdempotencyKey) -> Any:
    try:
        return json.loads(_cipher().decrypt(stored.response.encode()))
    except InvalidToken as error:
        raise KeyReused(
            f"the first answer for {HEADER} {stored.key!r} can no longer be read: take a new key"
        ) from error
