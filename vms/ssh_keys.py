"""SSH public keys of a project."""

from __future__ import annotations

import base64
import hashlib
from contextlib import AbstractContextManager

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from django.db import transaction

from cloud.audit import changing, created, write
from cloud.constraints import refused_by
from cloud.errors import NotFound, NotUnique, invalid
from cloud.labels import check_labels
from cloud.models import Project
from cloud.naming import check_name
from vms.models import SshKey
from vms.spec import SSH_KEY_LENGTH

_UNIQUE = {"ssh_key_name_unique": "name", "ssh_key_unique": "public_key"}


def create_ssh_key(
    project: Project, *, name: str, public_key: str, labels: dict[str, str]
) -> SshKey:
    """Store a key; raises InvalidInput (no OpenSSH key) or NotUnique (name or key)."""
    text = public_key.strip()
    key = SshKey(
        project=project,
        name=check_name(name),
        public_key=text,
        fingerprint=fingerprint_of(text),
        labels=check_labels(labels),
    )
    with _unique(), transaction.atomic():
        key.save()
        created(key)
    return key


def update_ssh_key(
    key: SshKey, *, name: str | None = None, labels: dict[str, str] | None = None
) -> SshKey:
    """Rename or relabel; raises InvalidInput, NotUnique, or Conflict (changed meanwhile)."""
    wanted: dict[str, object] = {}
    if name is not None:
        wanted["name"] = check_name(name)
    if labels is not None:
        wanted["labels"] = check_labels(labels)
    if wanted:
        with _unique():
            write(key, wanted)
    return key


def delete_ssh_key(key: SshKey) -> None:
    """Forget the key. Servers made with it keep it. Raises NotFound if it is gone already."""
    with transaction.atomic(), changing(key, "delete"):
        gone, _ = key.delete()
        if not gone:
            raise NotFound(f"SSH key {key} is deleted already")


def fingerprint_of(public_key: str) -> str:
    """MD5 of the key blob as colon-separated hex pairs, as the contract's clients compute it.

    MD5 is a name here, not a protection. Raises InvalidInput.
    """
    try:
        load_ssh_public_key(public_key.encode())
        blob = base64.b64decode(public_key.split()[1], validate=True)
    except (ValueError, IndexError, UnsupportedAlgorithm) as error:
        raise invalid("public_key", "is not an OpenSSH public key") from error
    if not public_key.isprintable():
        raise invalid("public_key", "must be a single line")
    if len(public_key) > SSH_KEY_LENGTH:
        raise invalid("public_key", f"must have at most {SSH_KEY_LENGTH} characters")
    digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def _unique() -> AbstractContextManager[None]:
    return refused_by(
        {
            constraint: NotUnique(field, f"SSH key with this {field} already exists")
            for constraint, field in _UNIQUE.items()
        }
    )
