"""Parts of the wire contract that documents about servers and about networks share.

Every document carries a wire version, and `decode` refuses what it does not fully understand, so
a host never acts on half a document. Control and hosts of different releases get along as long as
they speak one wire version: `encode` leaves out what is as it always was, so an older host takes
every document that asks nothing new of it.

Three things are the same in all wire versions, for ever, so that the sides can say that they do
not understand each other: the key "version", `Introduction` and `Refusal`. Pure.
"""

from __future__ import annotations

import threading
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from cloud import requestid
from cloud.errors import CumuletError

WIRE_VERSION: Final = 1
# What documents are of that were stored without saying so.
FIRST_VERSION: Final = 1

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


class Cause(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
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


class Failure(Struct, frozen=True, omit_defaults=True):
    """Why a host could not reach the desired state. A retryable one is tried again.

    Whatever a tool printed into `message`, it can be stored: the failure itself must be heard.
    """

    code: Code
    message: str
    retryable: bool
    step: Annotated[str, Meta(max_length=64)] = ""

    def __post_init__(self) -> None:
        force_setattr(self, "message", _storable(self.message))


class StepReport(Struct, frozen=True, omit_defaults=True):
    """One step that a host took, or tried `attempts` times without success so far.

    `started` is Unix time in seconds by the host's clock and, with the name, what identifies it.
    """

    name: StepName
    started: Moment
    # Below 0 where a clock was set back meanwhile.
    seconds: Annotated[float, Meta(ge=-(2**31), le=2**31)]
    attempts: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 1
    failure: Failure | None = None


class Introduction(Struct, frozen=True, omit_defaults=True):
    """What every heartbeat says, of whatever wire version: who speaks, and which version."""

    host: Annotated[str, Meta(max_length=64)]
    host_uuid: Uuid
    agent_version: Annotated[str, Meta(max_length=32)]
    version: Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Refusal(Struct, frozen=True, omit_defaults=True):
    """A host's answer to a document that it cannot take. Whatever it is about stays as it is.

    `task`: as what the document came, such as "vms.ensure"; `number`: of the server, network or
    image; `wire_version`: what the host speaks.
    """

    host_uuid: Uuid
    task: Annotated[str, Meta(max_length=64)]
    number: RowId
    generation: Annotated[int, Meta(ge=0, le=2**53 - 1)]
    failure: Failure
    agent_version: Annotated[str, Meta(max_length=32)]
    wire_version: Annotated[int, Meta(ge=1, le=2**31 - 1)]


class MalformedDocument(CumuletError):
    """A document of the wire contract is incomplete, out of bounds, or has what nobody knows."""

    code: ClassVar[str] = "malformed_document"


class VersionUnsupported(MalformedDocument):
    """A document is of another wire version than this release speaks."""

    code = "wire_version_unsupported"
    retryable: ClassVar[bool] = True


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
Kind = TypeVar("Kind")
_learning = threading.Lock()
_known: set[object] = set()


def known(kind: type[Kind]) -> type[Kind]:
    """The type itself, as soon as msgspec knows all of it.

    msgspec learns a type when it is used first, and runs Python meanwhile: another thread that
    comes across the half of it ends the process by a segmentation fault. So whatever threads may
    read at the same time is read as `known(T)`.
    """
    if kind not in _known:
        with _learning:
            msgspec.json.Decoder(kind)
            _known.add(kind)
    return kind


def encode(document: Struct) -> dict[str, Any]:
    """The document as JSON-ready built-in types, also to be stored.

    Without fields that have their default, but with its version if it has one.
    """
    encoded: dict[str, Any] = msgspec.to_builtins(document)
    if "version" in document.__struct_fields__:
        encoded["version"] = WIRE_VERSION
    return encoded


def decode(data: object, into: type[Document]) -> Document:
    """The typed document. Raises VersionUnsupported, or MalformedDocument that names the first
    wrong field.
    """
    version = version_of(data)
    if version != WIRE_VERSION:
        raise VersionUnsupported(
            f"{into.__name__} is of wire version {version}, this side speaks {WIRE_VERSION}:"
            " run the same Cumulet release on control and hosts"
        )
    return convert(data, into)


def version_of(data: object) -> int:
    """Of which wire version a document is. Raises MalformedDocument if it does not say."""
    version = data.get("version") if isinstance(data, dict) else None
    if type(version) is not int or version < 1:
        raise MalformedDocument(
            f"a document without a wire version ({version!r}): run the same Cumulet release on"
            " control and hosts"
        )
    return version


def convert(data: object, into: type[Document]) -> Document:
    """As `decode`, for what is the same in all versions. Raises MalformedDocument."""
    try:
        # What cannot be written again cannot be kept: halves of characters, numbers beyond 2^64.
        msgspec.json.encode(data)
        return msgspec.convert(data, known(into))
    except _UNREADABLE as error:
        raise MalformedDocument(f"{into.__name__} refused: {error}") from error
