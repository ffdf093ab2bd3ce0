"""What the stores of a host's documents have in common: refusals, and reading one back."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import ClassVar, TypeVar

import msgspec
from msgspec import Struct

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


Document = TypeVar("Document", bound=Struct)


def read(path: Path, into: type[Document]) -> Document | None:
    """None if there is none; raises DamagedStore."""
    with suppress(FileNotFoundError):
        try:
            return msgspec.json.decode(path.read_bytes(), type=into)
        except msgspec.DecodeError as error:
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
