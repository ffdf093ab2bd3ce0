"""How long the fleet's cloud takes to do something: take a report, make a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from kombu import Connection, Consumer, Message, Queue

from deploy.benchmarks.errors import BenchmarkFailed
from deploy.benchmarks.fleet.hosts import Fleet, PlayedHost
from deploy.benchmarks.fleet.measure import Watcher
from vms.spec import Power

_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.005
_BETWEEN_SECONDS = 0.5


class Reports:
    """Reports that bear news, each timed from the publishing until it is in the inventory."""

    def __init__(self, fleet: Fleet, watcher: Watcher, host: PlayedHost) -> None:
        self._fleet = fleet
        self._watcher = watcher
        self._host = host

    def take(self, seconds: float) -> list[float]:
        """As many as fit into so many seconds."""
        found = []
        ends = time.monotonic() + seconds
        powers = [Power.OFF, Power.RUNNING]
        while time.monotonic() < ends:
            powers.reverse()
            found.append(self._one(powers[0]))
            time.sleep(_BETWEEN_SECONDS)
        return found

    def _one(self, power: Power) -> float:
        vm_id, uuid, generation = self._host.vms[0]
        report = self._host.vm_report(vm_id, uuid, generation, power=power)
        began = time.monotonic()
        self._fleet.send(self._host, "reports.vm", report)
        while True:
            ((seq,),) = self._watcher.ask("SELECT observed_seq FROM vms_vm WHERE id = %s", vm_id)
            passed = time.monotonic() - began
            if seq >= report.seq:
                return passed
            if passed > _PATIENCE_SECONDS:
                raise BenchmarkFailed(f"a report was not taken within {passed:.0f} s")
            time.sleep(_POLL_SECONDS)


class Creations:
    """Servers that are made by the API, timed until their Action has succeeded."""

    def __init__(self, api: httpx.Client) -> None:
        self._api = api
        self._number = 0

    def take(self, seconds: float) -> list[float]:
        found = []
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            found.append(self._one())
            time.sleep(_BETWEEN_SECONDS)
        return found

    def _one(self) -> float:
        self._number += 1
        order = {
            "name": f"created-{self._number}",
            "server_type": "nano",
            "image": "fleet",
            "public_net": {"enable_ipv4": False, "enable_ipv6": False},
            "start_after_create": False,
        }
        began = time.monotonic()
        answer = self._api.post("/servers", json=order)
        answer.raise_for_status()
        action = answer.json()["action"]
        while action["status"] == "running":
            if time.monotonic() - began > _PATIENCE_SECONDS:
                raise BenchmarkFailed(f"server {order['name']} was not made in time")
            time.sleep(4 * _POLL_SECONDS)
            action = self._api.get(f"/actions/{action['id']}").json()["action"]
        if action["status"] != "success":
            raise BenchmarkFailed(f"server {order['name']} was not made: {action['error']}")
        return time.monotonic() - began


@contextmanager
def obeying(fleet: Fleet, host: PlayedHost, url: str) -> Iterator[None]:
    """The host does at once what it is told, as far as its reports say."""
    ended = threading.Event()

    def take(body: Any, message: Message) -> None:
        document = body[0][0]
        if "generation" in document and "uuid" in document:
            there = "power" in document
            report = host.vm_report(
                document["vm_id"],
                document["uuid"],
                document["generation"],
                present=there,
                power=Power.RUNNING if document.get("power") == "running" else Power.OFF,
            )
            fleet.send(host, "reports.vm", report)
        message.ack()

    def serve() -> None:
        queue = Queue(f"host.{host.name}", no_declare=True)
        with (
            Connection(url, heartbeat=0) as connection,
            Consumer(connection.channel(), [queue], callbacks=[take], auto_declare=False),
        ):
            while not ended.is_set():
                try:
                    connection.drain_events(timeout=0.2)
                except TimeoutError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
