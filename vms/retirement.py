"""Have hosts remove the files of images that were retired: part of the sweep.

A host is asked only once no server there is made from the image, and keeps what it finds needed
all the same. Its answer ends the row of its copy; until then it is asked again, at leisure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from cloud.models import Host
from cloud.patience import LONGEST
from vms import dispatch
from vms.models import VM, Image, ImageCopy

# Whoever chose the image at the moment in which it was retired has made a server of it by then.
REST: Final = timedelta(hours=1)
_BATCH = 200


def free_retired_images(now: datetime) -> int:
    """Ask hosts to remove what no image has any more; answers how many copies are to end."""
    retired = Q(image__deleted_at__lt=now - REST)
    asked_lately = Q(next_dispatch_at__range=(now - REST, now + LONGEST))
    due = (
        ImageCopy.objects.filter(retired)
        .exclude(asked_lately)
        .exclude(host__in=Host.objects.silent(now, settings.HOST_SILENT_SECONDS).numbers())
        .exclude(Exists(VM.objects.filter(host=OuterRef("host"), image=OuterRef("image"))))
        .select_related("image", "host")
    )
    if not due.exists():
        return 0
    offered = Image.objects.exclude(deleted_at__lt=now - REST)
    kept = {file.sha256 for image in offered for file in dispatch.image_spec(image).files}
    with transaction.atomic():
        copies = list(due.select_for_update(of=("self",), skip_locked=True)[:_BATCH])
        for copy in copies:
            copy.next_dispatch_at = now
            copy.save(update_fields=["next_dispatch_at"])
    for copy in copies:
        files = (file.sha256 for file in dispatch.image_spec(copy.image).files)
        if gone := tuple(sha for sha in dict.fromkeys(files) if sha not in kept):
            dispatch.send_image(copy, gone)
        else:
            copy.delete()
    return len(copies)
