"""The host's Celery tasks: entry points only, the work is in `vms.host.inbox`."""

from __future__ import annotations

from functools import cache
from typing import Any

from cloud.agent import config, task
from cloud.wire import decode
from networks.spec import NetworkRemoval, NetworkSpec
from vms.drift.spec import InventoryRequest, StrayRemoval
from vms.host import bridging, inbox
from vms.host.host import Host
from vms.host.outbox import send_inventory, send_network, send_vm
from vms.spec import ImageFetch, VmRemoval, VmSpec


@cache
def host() -> Host:
    opened = Host.open(config())
    bridging.prepare(opened)
    return opened


@task("vms.ensure")
def ensure(document: dict[str, Any]) -> None:
    inbox.ensure(host(), decode(document, VmSpec), send_vm)


@task("vms.remove")
def remove(document: dict[str, Any]) -> None:
    inbox.remove(host(), decode(document, VmRemoval), send_vm)


@task("images.fetch")
def fetch(document: dict[str, Any]) -> None:
    inbox.fetch(host(), decode(document, ImageFetch))


@task("networks.ensure")
def ensure_network(document: dict[str, Any]) -> None:
    inbox.network(host(), decode(document, NetworkSpec), send_network, send_vm)


@task("networks.remove")
def remove_network(document: dict[str, Any]) -> None:
    inbox.network(host(), decode(document, NetworkRemoval), send_network, send_vm)


@task("hosts.look")
def look(document: dict[str, Any]) -> None:
    inbox.look(host(), decode(document, InventoryRequest), send_inventory)


@task("strays.remove")
def remove_strays(document: dict[str, Any]) -> None:
    inbox.remove_strays(host(), decode(document, StrayRemoval), send_inventory)
