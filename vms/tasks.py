"""Control's Celery tasks: entry points only, the work is in `vms.reports` and its like.

What comes from every host all the time sends no events: Flower would show nothing else.
"""

from __future__ import annotations

from typing import Any

import structlog
from django.conf import settings
from django.utils import timezone

from cloud import lanes
from cloud.celery import app, beside_worker, once_listening
from cloud.deadqueue import DeadQueue
from cloud.models import Host
from cloud.wire import (
    Introduction,
    MalformedDocument,
    Refusal,
    VersionUnsupported,
    convert,
    decode,
)
from cloud.workerdb import AWAY
from networks.spec import NetworkReport
from vms import dead_letters, reconcile, refusals, reports, unchanged, usage
from vms.drift.record import host_inventory
from vms.drift.spec import HostInventory
from vms.private.reports import network_report
from vms.spec import HostReport, ImageReport, UnchangedReport, UsageReport, VmReport

log = structlog.get_logger(__name__)


@app.task(name="reports.vm", bind=True)
def report_vm(self: Any, document: dict[str, Any]) -> None:
    reports.vm_report(decode(document, VmReport), _sender(self))


@app.task(name="reports.unchanged", bind=True, send_events=False)
def report_unchanged(self: Any, document: dict[str, Any]) -> None:
    unchanged.unchanged_report(decode(document, UnchangedReport), _sender(self))


@app.task(name="reports.host", bind=True, send_events=False)
def report_host(self: Any, document: dict[str, Any]) -> None:
    try:
        report = decode(document, HostReport)
    except MalformedDocument as error:
        refusals.stranger(convert(document, Introduction), error, _sender(self))
        if isinstance(error, VersionUnsupported):
            return
        raise
    reports.host_report(report, _sender(self))


@app.task(name="reports.image", bind=True)
def report_image(self: Any, document: dict[str, Any]) -> None:
    reports.image_report(decode(document, ImageReport), _sender(self))


@app.task(name="reports.usage", bind=True, send_events=False)
def report_usage(self: Any, document: dict[str, Any]) -> None:
    usage.usage_report(decode(document, UsageReport), _sender(self))


@app.task(name="reports.network", bind=True)
def report_network(self: Any, document: dict[str, Any]) -> None:
    network_report(decode(document, NetworkReport), _sender(self))


@app.task(name="reports.refused", bind=True)
def report_refusal(self: Any, document: dict[str, Any]) -> None:
    refusals.refused(convert(document, Refusal), _sender(self))


@app.task(name="reports.inventory", bind=True)
def report_inventory(self: Any, document: dict[str, Any]) -> None:
    host_inventory(decode(document, HostInventory), _sender(self))


@app.task(name="control.sweep")
def sweep() -> None:
    _open_lanes()
    reconcile.sweep()


@app.task(name="control.watch")
def watch() -> None:
    """Run by `cloud.beat` itself."""
    reconcile.watch(timezone.now())


@app.task(name="control.tidy")
def tidy() -> None:
    reconcile.tidy(timezone.now())


beside_worker(lambda: DeadQueue(settings.BROKER_URL, dead_letters.keep).start())


@once_listening
def _listen() -> None:
    """To all hosts as soon as the worker can: beat may be away, or another worker's the sweep."""
    try:
        _open_lanes()
    except AWAY as error:
        log.warning("database away, the first sweep opens the lanes", error=type(error).__name__)


def _open_lanes() -> None:
    lanes.serve(Host.objects.order_by().values_list("name", flat=True))


def _sender(task: Any) -> str:
    """The broker user that published the message, which RabbitMQ itself verified."""
    properties = task.request.properties or {}
    return str(properties.get("user_id") or "")
