"""What the stores of a host's documents have in common: refusals, writing one and reading it back.

The disk outlives releases, so a stored document has its wire version, like one that travels.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import ClassVar, TypeVar

import msgspec
from msgspec import Struct

from cloud import files, wire
from cloud.errors import CumuletError


class Refused(CumuletError):
    """The host does not act on this document."""

    code: ClassVar[str] = "document_refused"


class OldGeneration(Refused):
    """A newer document of the same thing was accepted before."""

    code = "generation_old"


class WrongHost(Refused):
    """The document was meant for another machine."""

    code = "wrong_host"


class DamagedStore(CumuletError):
    """A stored document cannot be read back."""

    code: ClassVar[str] = "host_store_damaged"


class StoredVersionUnsupported(DamagedStore):
    """A stored document was written by a release that speaks another wire version."""

    code = "stored_version_unsupported"


Document = TypeVar("Document", bound=Struct)


def write(path: Path, document: Struct) -> None:
    """On the disk before it returns."""
    files.write(path, msgspec.json.encode(wire.encode(document)))


def read(path: Path, into: type[Document]) -> Document | None:
    """None if there is none; raises DamagedStore, also as StoredVersionUnsupported."""
    with suppress(FileNotFoundError):
        try:
            return wire.decode(msgspec.json.decode(path.read_bytes()), into)
        except wire.VersionUnsupported as error:
            raise StoredVersionUnsupported(
                f"{path}: {error.message}. Nothing is done about it until this host has a release"
                " that reads it, or control sends the document anew"
            ) from error
        except (msgspec.DecodeError, wire.MalformedDocument) as error:
            raise DamagedStore(
                f"{path} cannot be read ({error}): restore it from a backup, or delete the server"
                " or network that it is about"
            ) from error
    return None


def check_host(own_uuid: str, host_uuid: str) -> None:
    """Raises WrongHost unless the document names this machine."""
    if host_uuid != own_uuid:
        raise WrongHost(
            f"the document is for host {host_uuid}, this is {own_uuid}: was this machine"
            " installed anew? Then join it under a new name"
        )
