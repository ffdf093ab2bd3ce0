"""What can go wrong while a guest image is built, apart from a program's own failure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from cloud.errors import CumuletError


class ImageError(CumuletError):
    """A guest image cannot be built."""

    code: ClassVar[str] = "image_build_failed"


class UnknownGuest(ImageError):
    """There is no recipe of that name."""

    code = "image_unknown"

    def __init__(self, guest: str, known: Iterable[str]) -> None:
        super().__init__(f"there is no guest image '{guest}'; choose one of: {', '.join(known)}")


class RootNeeded(ImageError):
    """Writing the bootloader needs a mount, and a mount needs root."""

    code = "image_needs_root"

    def __init__(self, guest: str) -> None:
        super().__init__(f"the guest image '{guest}' is built as root: run this with sudo")


class ArchiveUnreachable(ImageError):
    """The Debian archive did not answer, and no earlier answer is known."""

    code = "image_archive_unreachable"
    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(
            "the Debian archive could not be asked for its packages: check this machine's network"
            f" and proxy, or name a mirror in CUMULET_DEBIAN_MIRROR ({reason})"
        )


class MalformedKernel(ImageError):
    """The kernel is packed in a way that the recipe does not know."""

    code = "image_kernel_malformed"
