"""Images that were retired leave the hosts that have no server of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from cloud.models import Host
from tests import factories as make
from vms import dispatch, reports
from vms.images import retire_image
from vms.models import Image, ImageCopy
from vms.retirement import REST, free_retired_images
from vms.spec import ImageReport

pytestmark = pytest.mark.django_db

Sent = list[tuple[str, Any]]
SOON, LATER = REST / 2, REST + timedelta(seconds=1)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Queues and documents."""
    taken: Sent = []

    def hint(queue: str, task: str, document: dict[str, Any], *, summary: str) -> bool:
        taken.append((queue, document.get("gone")))
        return True

    monkeypatch.setattr(dispatch, "hint", hint)
    return taken


def sweep(after: timedelta) -> int:
    now = timezone.now() + after
    Host.objects.update(last_heartbeat=now)
    return free_retired_images(now)


def a_copy(image: Image, host: Host) -> ImageCopy:
    return ImageCopy.objects.create(image=image, host=host, ready=True, progress=100)


def kernel(sha256: str) -> dict[str, dict[str, object]]:
    return {"kernel": {"url": "http://192.0.2.2/kernel", "sha256": sha256, "bytes": 10}}


def test_hosts_are_asked_to_remove_what_no_image_has_any_more(sent: Sent) -> None:
    old = make.image("debian", sha256="1" * 64, boot_files=kernel("2" * 64))
    new = make.image("other", sha256="3" * 64, boot_files=kernel("2" * 64))
    host = make.host("h1")
    for image in (old, new):
        a_copy(image, host)
    retire_image(old)
    assert sweep(SOON) == 0, "somebody may be about to make a server of it"
    assert sweep(LATER) == 1
    assert sent == [("host.h1.bulk", ("1" * 64,))]
    assert sweep(LATER + SOON) == 0, "it has time to answer"
    assert sweep(LATER + LATER) == 1


def test_a_host_with_a_server_of_the_image_keeps_it(sent: Sent) -> None:
    make.host()
    make.pool()
    vm = make.ordered().vm
    a_copy(vm.image, vm.host)
    retire_image(vm.image)
    assert sweep(LATER) == 0
    assert sent == []


def test_a_copy_ends_with_the_hosts_word_and_not_before() -> None:
    copy = a_copy(make.image(), make.host())
    gone = ImageReport(str(copy.host.uuid), copy.image_id, copy.image.sha256, False, 0, gone=True)
    reports.image_report(gone, "host-h1")
    assert ImageCopy.objects.exists(), "it is not retired"
    retire_image(copy.image)
    reports.image_report(
        ImageReport(gone.host_uuid, gone.image_id, gone.sha256, True, 100), "host-h1"
    )
    assert ImageCopy.objects.exists()
    reports.image_report(gone, "host-h1")
    assert not ImageCopy.objects.exists()


def test_a_copy_whose_files_all_belong_to_other_images_too_just_ends(sent: Sent) -> None:
    old = make.image("debian", cmdline="quiet")
    make.image("other")
    a_copy(old, make.host())
    retire_image(old)
    assert sweep(LATER) == 1
    assert sent == []
    assert not ImageCopy.objects.filter(image=old).exists()
