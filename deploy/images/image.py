"""The description of a built guest image: what `image.json` beside its files says."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DESCRIPTION = "image.json"


@dataclass(frozen=True)
class ImageFile:
    """One file of an image; `bytes` is its size as stored."""

    file: Path
    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: Path) -> ImageFile:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return cls(path, digest, path.stat().st_size)


@dataclass(frozen=True)
class DiskFile(ImageFile):
    """The disk; `virtual_bytes` is the size that a guest sees."""

    format: str
    virtual_bytes: int


@dataclass(frozen=True)
class GuestImage:
    """A guest image ready for use. Its paths are absolute, its files are never changed.

    With a kernel it is booted directly (kernel, initrd, cmdline), else its disk boots by itself.
    """

    name: str
    description: str
    os_flavor: str
    os_version: str | None
    architecture: str
    disk: DiskFile
    kernel: ImageFile | None
    initrd: ImageFile | None
    cmdline: str | None

    def write(self, directory: Path) -> None:
        """Describe this image in `directory`, its files by their names alone."""
        text = json.dumps(_plain(self), indent=2)
        path = directory / DESCRIPTION
        path.write_text(text + "\n")
        path.chmod(0o644)

    @classmethod
    def read(cls, directory: Path) -> GuestImage:
        """The image described in `directory`; raises FileNotFoundError if there is none."""
        stored: dict[str, Any] = json.loads((directory / DESCRIPTION).read_text())
        base = directory.absolute()
        disk = stored.pop("disk")
        kernel, initrd = stored.pop("kernel"), stored.pop("initrd")
        return cls(
            **stored,
            disk=DiskFile(**{**disk, "file": base / disk["file"]}),
            kernel=ImageFile(**{**kernel, "file": base / kernel["file"]}) if kernel else None,
            initrd=ImageFile(**{**initrd, "file": base / initrd["file"]}) if initrd else None,
        )


def _plain(image: GuestImage) -> dict[str, Any]:
    plain = dict(vars(image))
    for part in ("disk", "kernel", "initrd"):
        if plain[part] is not None:
            plain[part] = {**vars(plain[part]), "file": plain[part].file.name}
    return plain
