"""Parts of the wire contract that documents about servers and about networks share.

Every document carries a wire version, and `decode` refuses what it does not fully understand, so
a host never acts on half a document. Pure.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from cloud import requestid
from cloud.errors import CumuletError

WIRE_VERSION: Final = 1

Version = Literal[1]
Uuid = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]
Generation = Annotated[int, Meta(ge=1, le=2**53 - 1)]
RowId = Annotated[int, Meta(ge=1, le=2**53 - 1)]
RequestId = Annotated[str, Meta(pattern=requestid.PATTERN)]
# Steps of one report; a host keeps no more of them, the oldest go first.
MOST_STEPS: Final = 32


class Cause(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a document is as it is: the request that asked for it, and its Action if it has one."""

    request_id: RequestId
    action_id: RowId | None = None


class StepName(StrEnum):
    """The parts of an Action's course that people see; the first two happen on control.

    GUEST is the guest's own part: from its start to the first frame that it sends, or from the
    power button to its end.
    """

    PLACED = "placed"
    QUEUED = "queued"
    IMAGE = "image"
    DISK = "disk"
    LINKS = "links"
    QEMU = "qemu"
    GUEST = "guest"


class Failure(Struct, frozen=True):
    """Why a host could not reach the desired state. A retryable one is tried again."""

    code: str
    message: str
    retryable: bool
    step: str = ""


class StepReport(Struct, frozen=True):
    """One step that a host took, or tried `attempts` times without success so far.

    `started` is Unix time in seconds by the host's clock and, with the name, what identifies it.
    """

    name: StepName
    started: float
    seconds: float
    attempts: Annotated[int, Meta(ge=1)] = 1
    failure: Failure | None = None


class MalformedDocument(CumuletError):
    """A document of the wire contract is of another version, incomplete or out of bounds."""

    code: ClassVar[str] = "malformed_document"


Document = TypeVar("Document", bound=Struct)


def encode(document: Struct) -> dict[str, Any]:
    """The document as JSON-ready built-in types."""
    encoded: dict[str, Any] = msgspec.to_builtins(document)
    return encoded


def decode(data: object, into: type[Document]) -> Document:
    """The typed document, or MalformedDocument that names the first wrong field."""
    version = data.get("version") if isinstance(data, dict) else None
    if version != WIRE_VERSION:
        raise MalformedDocument(
            f"{into.__name__} of wire version {version!r}, this side speaks {WIRE_VERSION}:"
            " run the same Cumulet release on control and hosts"
        )
    try:
        return msgspec.convert(data, into)
    except msgspec.ValidationError as error:
        raise MalformedDocument(f"{into.__name__} refused: {error}") from error
