"""A cloud with a mesh, for tests of private networks, and what its hosts are told."""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.test import TestCase
from kombu import Connection, Exchange, Queue

from cloud.broker import HOSTS_EXCHANGE, broker_user
from cloud.celery import hint
from cloud.models import Host
from cloud.wire import decode
from networks.models import PrivateNetwork, Replica
from networks.spec import NetworkRemoval, NetworkReport, NetworkSpec
from tests import factories as make
from vms import reports
from vms.actions import create_vm
from vms.attachments import PublicNet
from vms.models import VM, Nic, PrivateAddress
from vms.private.actions import NetworkOrder, SubnetOrder, create_network
from vms.private.reports import network_report
from vms.spec import HostReport, VmSpec

NOWHERE = PublicNet(ipv4=False, ipv6=False)


def key_of(name: str) -> str:
    """Like a WireGuard key: 32 bytes in Base64."""
    return base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()


def facts(number: int) -> dict[str, str]:
    """What makes the host of this number a part of the mesh."""
    return {
        "tunnel_key": key_of(f"h{number}"),
        "tunnel_ip": f"100.64.{number // 250}.{number % 250 + 1}",
        "tunnel_endpoint": f"192.0.2.{number % 250 + 1}:51820",
    }


def host(number: int, **values: Any) -> Host:
    """A host of the mesh with much room."""
    room = {"cores": 100, "memory_mb": 2**20, "disk_gb": 1000}
    return make.host(f"h{number}", **{**room, **facts(number), **values})


def network(name: str = "backend", ip_range: str = "10.0.0.0/16", **values: Any) -> PrivateNetwork:
    """With one subnet, the first /24."""
    make.location()
    subnets = values.pop("subnets", (SubnetOrder("cloud", "local"),))
    order = NetworkOrder(name, ip_range, subnets, **values)
    return create_network(make.project(), order)


def server(name: str, *networks: PrivateNetwork, on: Host | None = None, **values: Any) -> VM:
    """Without a public address, made on this host, and as it should be."""
    values = {"start": bool(networks), "public_net": NOWHERE, "networks": networks, **values}
    if on:
        Host.objects.update(schedulable=False)
        Host.objects.filter(pk=on.pk).update(schedulable=True)
    vm = create_vm(make.project(), make.order(name, **values)).vm
    Host.objects.update(schedulable=True)
    converge(vm)
    return vm


def three_hosts() -> list[Host]:
    """Of which the last two have a member each of the network `backend`."""
    make.image()
    three = [host(number) for number in (1, 2, 3)]
    backend = network()
    for number in (1, 2):
        server(f"web-{number + 1}", backend, on=three[number])
    hosts_obey()
    return three


def member_rows(vm: VM, network: PrivateNetwork, hosts: Iterable[Host]) -> None:
    """Servers like this one, one on each host, written at once and not told of yet."""
    for number, host in enumerate(hosts, start=3):
        twin = copy(vm)
        twin.pk, twin.uuid = None, uuid.uuid4()
        twin.name, twin.host = f"{vm.name}-{number}", host
        twin._state.adding = True
        twin.save()
        nic = Nic.objects.create(vm=twin, index=1, network=network)
        PrivateAddress.objects.create(network=network, nic=nic, ip=f"10.0.0.{number}")


def converge(*vms: VM) -> None:
    """The hosts report that their servers are as they should be."""
    for vm in vms:
        reports.vm_report(make.report(vm), broker_user(vm.host.name))


def host_says(replica: Replica, **facts: Any) -> None:
    """The host reports of a network; by default that all is as wanted."""
    replica.refresh_from_db()
    values = {
        "network_id": replica.network_id,
        "host_uuid": str(replica.host.uuid),
        "generation": replica.generation,
        "present": replica.wanted,
        "converged": True,
        "at": 0.0,
    }
    sender = facts.pop("sender", broker_user(replica.host.name))
    network_report(NetworkReport(**{**values, **facts}), sender)


def hosts_obey() -> None:
    """All hosts report that all networks are as they should be."""
    for replica in Replica.objects.select_related("host"):
        host_says(replica)


def heartbeat(host: Host, **facts: Any) -> None:
    host.refresh_from_db()
    heartbeat_of(host, **facts)


def heartbeat_of(host: Host, **facts: Any) -> None:
    """Of the host as it was read."""
    values = {
        "host": host.name,
        "host_uuid": str(host.uuid),
        "boot_id": "boot-1",
        "agent_version": "1",
        "network_mode": host.network_mode,
        "cores": host.cores,
        "memory_mb": host.memory_mb,
        "disk_gb": host.disk_gb,
        "disk_free_gb": host.disk_gb,
        "accelerator": "tcg",
        "accelerator_reason": "",
        "tunnel_key": host.tunnel_key or None,
        "tunnel_endpoint": host.tunnel_endpoint or None,
    }
    reports.host_report(HostReport(**{**values, **facts}), broker_user(host.name))


@dataclass
class Told:
    """What hosts were told, by their names, in the order of the messages."""

    networks: list[tuple[str, NetworkSpec | NetworkRemoval]] = field(default_factory=list)
    servers: list[tuple[str, VmSpec]] = field(default_factory=list)
    others: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    @property
    def hosts(self) -> list[str]:
        """Those that were told something about a network."""
        return [name for name, _ in self.networks]

    def of(self, host: Host) -> NetworkSpec:
        """The one document that a host got."""
        (document,) = [one for name, one in self.networks if name == host.name]
        assert isinstance(document, NetworkSpec)
        return document


def _until_end(queue: Queue) -> Iterator[Any]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        message = queue.get(no_ack=True)
        if message is None:
            time.sleep(0.005)
        elif message.headers["task"] == "end":
            return
        else:
            yield message
    raise TimeoutError("the broker did not hand over what was sent")


_INTO: dict[str, Any] = {
    "networks.ensure": NetworkSpec,
    "networks.remove": NetworkRemoval,
    "vms.ensure": VmSpec,
}


@contextmanager
def listening() -> Iterator[Told]:
    """What is sent to hosts by the transactions of the block; there when it has ended."""
    told = Told()
    with Connection(settings.BROKER_URL) as connection:
        channel = connection.default_channel
        exchange = Exchange(HOSTS_EXCHANGE, "topic", channel=channel)
        exchange.declare()
        queue = Queue("", exchange, "#", exclusive=True, channel=channel)
        queue.declare()
        with TestCase.captureOnCommitCallbacks(execute=True):
            yield told
        # One channel keeps the order: what was sent before the end is there before it.
        hint("end", "end", {}, summary="end")
        for message in _until_end(queue):
            task = message.headers["task"]
            name = message.delivery_info["routing_key"].removeprefix("host.")
            if task not in _INTO:
                told.others.append((name, task, message.payload[0][0]))
                continue
            document = decode(message.payload[0][0], _INTO[task])
            (told.servers if task == "vms.ensure" else told.networks).append((name, document))
