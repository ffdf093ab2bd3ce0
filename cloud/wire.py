"""Parts of the wire contract that documents about servers and about networks share.

Every document carries a wire version, and `decode` refuses what it does not fully understand, so
a host never acts on half a document. Pure.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from cloud import requestid
from cloud.errors import CumuletError

WIRE_VERSION: Final = 1

Version = Literal[1]
Uuid = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]
Generation = Annotated[int, Meta(ge=1, le=2**53 - 1)]
RowId = Annotated[int, Meta(ge=1, le=2**53 - 1)]
RequestId = Annotated[str, Meta(pattern=requestid.PATTERN)]
# Unix time in seconds; what is later than all clocks of the world is no time.
Moment = Annotated[float, Meta(ge=0, le=2**35)]
Code = Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,64}\Z")]
BootId = Annotated[str, Meta(max_length=64)]
# Characters of what a failure says: a tool may have a lot to say, and print anything.
_MOST_SAID: Final = 4000
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
    """Why a host could not reach the desired state. A retryable one is tried again.

    Whatever a tool printed into `message`, it can be stored: the failure itself must be heard.
    """

    code: Code
    message: str
    retryable: bool
    step: Annotated[str, Meta(max_length=64)] = ""

    def __post_init__(self) -> None:
        force_setattr(self, "message", _storable(self.message))


class StepReport(Struct, frozen=True):
    """One step that a host took, or tried `attempts` times without success so far.

    `started` is Unix time in seconds by the host's clock and, with the name, what identifies it.
    """

    name: StepName
    started: Moment
    # Below 0 where a clock was set back meanwhile.
    seconds: Annotated[float, Meta(ge=-(2**31), le=2**31)]
    attempts: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 1
    failure: Failure | None = None


class MalformedDocument(CumuletError):
    """A document of the wire contract is of another version, incomplete or out of bounds."""

    code: ClassVar[str] = "malformed_document"


def _storable(text: str) -> str:
    """Without what PostgreSQL or JSON cannot hold, and cut in the middle of what is too long."""
    text = text.replace("\0", "\ufffd").encode(errors="replace").decode()
    if len(text) <= _MOST_SAID:
        return text
    half = _MOST_SAID // 2
    return f"{text[: half - 5]} ... {text[-half:]}"


_UNREADABLE = (
    msgspec.MsgspecError,
    UnicodeEncodeError,
    OverflowError,
    RecursionError,
    TypeError,
)

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
        # What cannot be written again cannot be kept: halves of characters, numbers beyond 2^64.
        msgspec.json.encode(data)
        return msgspec.convert(data, into)
    except _UNREADABLE as error:
        raise MalformedDocument(f"{into.__name__} refused: {error}") from error
