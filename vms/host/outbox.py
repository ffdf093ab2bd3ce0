"""The host's reports, on their way to control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cloud.agent import publish
from cloud.wire import Refusal, encode
from networks.spec import NetworkReport
from vms.drift.spec import HostInventory
from vms.spec import HostReport, ImageReport, UnchangedReport, UsageReport, VmReport


@dataclass(frozen=True)
class Outbox:
    """Each function answers whether the broker took the report."""

    vm: Callable[[VmReport], bool]
    unchanged: Callable[[UnchangedReport], bool]
    host: Callable[[HostReport], bool]
    image: Callable[[ImageReport], bool]
    usage: Callable[[UsageReport], bool]
    network: Callable[[NetworkReport], bool]
    inventory: Callable[[HostInventory], bool]


def send_vm(report: VmReport) -> bool:
    power = report.power if report.present else "gone"
    state = report.failure.code if report.failure else ("done" if report.converged else "under way")
    summary = f"server #{report.vm_id}: {power}, generation {report.generation} {state}"
    return publish("reports.vm", encode(report), summary=summary)


def send_unchanged(report: UnchangedReport) -> bool:
    summary = f"{len(report.vms)} servers, {len(report.networks)} networks"
    return publish("reports.unchanged", encode(report), summary=summary)


def send_host(report: HostReport) -> bool:
    return publish("reports.host", encode(report), summary=f"host {report.host}")


def send_image(report: ImageReport) -> bool:
    state = "gone" if report.gone else "ready" if report.ready else f"{report.progress} %"
    summary = f"image #{report.image_id}: {report.failure.code if report.failure else state}"
    return publish("reports.image", encode(report), summary=summary)


def send_usage(report: UsageReport) -> bool:
    return publish("reports.usage", encode(report), summary=f"{len(report.usages)} servers")


def send_network(report: NetworkReport) -> bool:
    state = report.failure.code if report.failure else ("here" if report.present else "gone")
    summary = f"network #{report.network_id}: generation {report.generation} {state}"
    return publish("reports.network", encode(report), summary=summary)


def send_refusal(refusal: Refusal) -> bool:
    summary = f"{refusal.task} #{refusal.number}: {refusal.failure.code}"
    return publish("reports.refused", encode(refusal), summary=summary)


def send_inventory(inventory: HostInventory) -> bool:
    summary = f"{len(inventory.things)} things of {len(inventory.servers)} servers"
    return publish("reports.inventory", encode(inventory), summary=summary)


BROKER = Outbox(
    send_vm,
    send_unchanged,
    send_host,
    send_image,
    send_usage,
    send_network,
    send_inventory,
)
