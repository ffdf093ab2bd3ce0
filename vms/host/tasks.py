"""The host's Celery tasks: entry points only, the work is in `vms.host.inbox`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from cloud.agent import task
from cloud.wire import MalformedDocument, VersionUnsupported, decode
from networks.spec import NetworkRemoval, NetworkSpec
from vms.drift.spec import InventoryRequest, StrayRemoval
from vms.host import inbox
from vms.host.documents import DamagedStore, StoredVersionUnsupported
from vms.host.outbox import send_image, send_inventory, send_network, send_refusal, send_vm
from vms.host.refusals import refusal
from vms.host.startup import host
from vms.spec import ImageFetch, VmRemoval, VmSpec

log = structlog.get_logger(__name__)


@contextmanager
def _answered(task: str, document: dict[str, Any]) -> Iterator[None]:
    """Whoever sent what cannot be taken hears why.

    What another release mends comes again until then; anything else is a dead letter as well.
    """
    try:
        yield
    except (MalformedDocument, DamagedStore) as error:
        log.error("document refused", code=error.code, reason=error.message)
        if answer := refusal(host().uuid, task, document, error):
            send_refusal(answer)
        if not isinstance(error, VersionUnsupported | StoredVersionUnsupported):
            raise


@task("vms.ensure")
def ensure(document: dict[str, Any]) -> None:
    with _answered("vms.ensure", document):
        inbox.ensure(host(), decode(document, VmSpec), send_vm)


@task("vms.remove")
def remove(document: dict[str, Any]) -> None:
    with _answered("vms.remove", document):
        inbox.remove(host(), decode(document, VmRemoval), send_vm)


@task("images.fetch")
def fetch(document: dict[str, Any]) -> None:
    with _answered("images.fetch", document):
        inbox.fetch(host(), decode(document, ImageFetch), send_image)


@task("networks.ensure")
def ensure_network(document: dict[str, Any]) -> None:
    with _answered("networks.ensure", document):
        inbox.network(host(), decode(document, NetworkSpec), send_network, send_vm)


@task("networks.remove")
def remove_network(document: dict[str, Any]) -> None:
    with _answered("networks.remove", document):
        inbox.network(host(), decode(document, NetworkRemoval), send_network, send_vm)


@task("hosts.look")
def look(document: dict[str, Any]) -> None:
    with _answered("hosts.look", document):
        inbox.look(host(), decode(document, InventoryRequest), send_inventory)


@task("strays.remove")
def remove_strays(document: dict[str, Any]) -> None:
    with _answered("strays.remove", document):
        inbox.remove_strays(host(), decode(document, StrayRemoval), send_inventory)
