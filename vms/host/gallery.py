"""The monitor's care for wanted images: downloads run, and control knows how far they are."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cloud import files, requestid, shell
from cloud.wire import Failure
from vms.host import documents, images, store
from vms.host.host import Host
from vms.spec import ImageReport, ImageSpec

# After a download that failed for a reason that may pass; doubled each time.
RETRY_SECONDS = 10.0
MAX_RETRY_SECONDS = 300.0


@dataclass
class _Download:
    """What the monitor knows of one image that is under way."""

    attempts: int = 0
    due: float = 0.0
    told: ImageReport | None = None


class Gallery:
    """Call `tend` every few seconds; it does not wait for downloads."""

    def __init__(self, host: Host, send: Callable[[ImageReport], bool]) -> None:
        self._host = host
        self._send = send
        self._downloads: dict[int, _Download] = {}

    def tend(self) -> list[ImageSpec]:
        """Start downloads that are due, report; answers the images that were settled now."""
        wanted = images.wanted(self._host.paths)
        ids = [one.image.image_id for one in wanted]
        self._downloads = {pk: self._downloads.get(pk, _Download()) for pk in ids}
        settled = []
        for one in wanted:
            with requestid.bound(one.request_id):
                if self._settled(one.image):
                    settled.append(one.image)
        return settled

    def _settled(self, image: ImageSpec) -> bool:
        """Whether the image came, or never will, and control knows."""
        ready = images.present(self._host.paths, image)
        failure = None if ready else images.problem(self._host.paths, image)
        report = self._report(image, ready, failure)
        download = self._downloads[image.image_id]
        if report != download.told and self._send(report):
            download.told = report
        if not ready and (failure is None or failure.retryable):
            self._keep_running(image, download)
            return False
        if report != download.told:
            return False
        images.settle(self._host.paths, image)
        return True

    def _report(self, image: ImageSpec, ready: bool, failure: Failure | None) -> ImageReport:
        return ImageReport(
            host_uuid=self._host.uuid,
            image_id=image.image_id,
            sha256=image.disk.sha256,
            ready=ready,
            progress=images.progress(self._host.paths, image),
            failure=failure,
        )

    def _keep_running(self, image: ImageSpec, download: _Download) -> None:
        now = time.monotonic()
        if now < download.due:
            return
        with files.locked(images.fetch_lock(self._host.paths, image), wait=False) as idle:
            if not idle:
                return
        pause = RETRY_SECONDS * 2 ** min(download.attempts, 5)
        download.attempts += 1
        download.due = now + min(pause, MAX_RETRY_SECONDS)
        paths, owner = self._host.paths, self._host.owner
        where: list[str | Path] = [
            self._host.config.name,
            paths.state,
            paths.run,
            owner.name if owner else "",
            str(image.image_id),
        ]
        shell.detach([sys.executable, "-m", "vms.host.fetch", *where], log=paths.fetch_log)


def waiting(host: Host, image: ImageSpec) -> list[int]:
    """The VMs that are made of this image."""
    found = []
    for vm_id in store.vm_ids(host):
        with suppress(documents.DamagedStore):
            spec = store.spec(host.paths.vm(vm_id))
            if spec and spec.image.image_id == image.image_id:
                found.append(vm_id)
    return found
