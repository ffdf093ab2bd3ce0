"""Control's Celery tasks: entry points only, the work is in `vms.reports` and its like."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils import timezone

from cloud.celery import app, beside_worker
from cloud.deadqueue import DeadQueue
from cloud.wire import decode
from networks.spec import NetworkReport
from vms import dead_letters, reconcile, reports, usage
from vms.drift.record import host_inventory
from vms.drift.spec import HostInventory
from vms.private.reports import network_report
from vms.spec import HostReport, ImageReport, UsageReport, VmReport


@app.task(name="reports.vm", bind=True)
def report_vm(self: Any, document: dict[str, Any]) -> None:
    reports.vm_report(decode(document, VmReport), _sender(self))


@app.task(name="reports.host", bind=True)
def report_host(self: Any, document: dict[str, Any]) -> None:
    reports.host_report(decode(document, HostReport), _sender(self))


@app.task(name="reports.image", bind=True)
def report_image(self: Any, document: dict[str, Any]) -> None:
    reports.image_report(decode(document, ImageReport), _sender(self))


@app.task(name="reports.usage", bind=True)
def report_usage(self: Any, document: dict[str, Any]) -> None:
    usage.usage_report(decode(document, UsageReport), _sender(self))


@app.task(name="reports.network", bind=True)
def report_network(self: Any, document: dict[str, Any]) -> None:
    network_report(decode(document, NetworkReport), _sender(self))


@app.task(name="reports.inventory", bind=True)
def report_inventory(self: Any, document: dict[str, Any]) -> None:
    host_inventory(decode(document, HostInventory), _sender(self))


@app.task(name="control.sweep")
def sweep() -> None:
    reconcile.sweep()


@app.task(name="control.tidy")
def tidy() -> None:
    reconcile.tidy(timezone.now())


beside_worker(lambda: DeadQueue(settings.BROKER_URL, dead_letters.keep).start())


def _sender(task: Any) -> str:
    """The broker user that published the message, which RabbitMQ itself verified."""
    properties = task.request.properties or {}
    return str(properties.get("user_id") or "")
