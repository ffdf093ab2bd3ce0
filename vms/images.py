"""Register and retire base images."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from django.db import transaction
from django.utils import timezone

from cloud.audit import created, write
from cloud.errors import Protected, invalid
from cloud.models import Host
from cloud.wire import encode
from vms.dispatch import image_spec
from vms.models import Image, ImageCopy
from vms.spec import ImageSpec


@dataclass(frozen=True)
class Manifest:
    """What an image is made of: the guest builder's `image.json` with URLs for its files."""

    name: str
    description: str
    os_flavor: str
    os_version: str
    format: str
    virtual_bytes: int
    disk: dict[str, Any]
    boot_files: dict[str, dict[str, Any]] = field(default_factory=dict)
    cmdline: str = ""
    architecture: str = "x86"


def read_manifest(path: Path, url_base: str | None = None) -> Manifest:
    """Read `image.json`; files are found beside it, or below `url_base`. Raises InvalidInput."""
    base = url_base.rstrip("/") if url_base else path.resolve().parent.as_uri()
    try:
        data = json.loads(path.read_text())
        disk = data["disk"]

        def located(part: dict[str, Any]) -> dict[str, Any]:
            return {
                "url": f"{base}/{part['file']}",
                "sha256": part["sha256"],
                "bytes": part["bytes"],
            }

        boot = {name: located(data[name]) for name in ("kernel", "initrd") if data.get(name)}
        return Manifest(
            name=data["name"],
            description=data["description"],
            os_flavor=data["os_flavor"],
            os_version=data["os_version"] or "",
            format=disk["format"],
            virtual_bytes=disk["virtual_bytes"],
            disk=located(disk),
            boot_files=boot,
            cmdline=data.get("cmdline") or "",
            architecture=data["architecture"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise invalid("manifest", f"cannot read {path}: {error!r}") from error


def register_image(manifest: Manifest) -> tuple[Image, bool]:
    """Make the image known; answers it and whether it is new.

    An image of the same name and other content is retired: servers made from it keep their
    disks, new ones get the new image. Hosts are told by `vms.reconcile`; of a known image those
    anew that had failed finally. Raises ValidationError, InvalidInput or Protected.
    """
    known = Image.objects.filter(
        name=manifest.name, architecture=manifest.architecture, type="system", deleted_at=None
    ).first()
    image = Image(
        name=manifest.name,
        description=manifest.description,
        os_flavor=manifest.os_flavor,
        os_version=manifest.os_version,
        architecture=manifest.architecture,
        format=manifest.format,
        url=manifest.disk["url"],
        sha256=manifest.disk["sha256"],
        bytes=manifest.disk["bytes"],
        virtual_bytes=manifest.virtual_bytes,
        boot_files=manifest.boot_files,
        cmdline=manifest.cmdline,
    )
    if known is not None and _content(known) == _content(image) and not known.problem:
        known.copies.filter(failure_final=True).update(
            failure_final=False, attempts=0, next_dispatch_at=timezone.now()
        )
        return known, False
    with transaction.atomic():
        if known is not None:
            retire_image(known)
        image.full_clean()
        image.save()
        _check_form(image)
        created(image, "register")
        plan_copies()
    return image, True


def plan_copies() -> None:
    """A row for each pair of image and host: `vms.reconcile` then has the host fetch the image.

    Called when an image or a host comes. Two that come at once may miss each other, so the sweep
    does it once a minute.
    """
    images = Image.objects.filter(deleted_at=None)
    hosts = Host.objects.exclude(uuid=None)
    planned = ImageCopy.objects.filter(image__in=images, host__in=hosts).count()
    if planned < images.count() * hosts.count():
        ImageCopy.objects.bulk_create(
            [ImageCopy(image=image, host=host) for image in images for host in hosts],
            ignore_conflicts=True,
        )


def _content(image: Image) -> tuple[object, ...]:
    """What servers are made from, wherever its files lie."""
    boot = {name: file["sha256"] for name, file in image.boot_files.items()}
    return image.format, image.sha256, boot, image.cmdline


def _check_form(image: Image) -> None:
    """Raises InvalidInput for what every host would refuse as a malformed document."""
    try:
        msgspec.convert(encode(image_spec(image)), ImageSpec)
    except msgspec.ValidationError as error:
        raise invalid("manifest", str(error)) from error


def retire_image(image: Image) -> None:
    """Hide the image from new servers; doing it twice changes nothing.

    Raises Protected, or Conflict if another request did so meanwhile.
    """
    if image.delete_protection:
        raise Protected(f"image {image} is protected from deletion: remove the protection first")
    if image.deleted_at is None:
        write(image, {"deleted_at": timezone.now()}, "retire")
