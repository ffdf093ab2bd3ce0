"""What the database says about the cloud, for whoever scrapes `/metrics`.

Read when asked, in a number of queries that does not depend on how many servers there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.conf import settings
from django.utils import timezone
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from cloud.families import Family, Found
from cloud.models import Action, Host
from networks.models import Network
from networks.pools import usable
from vms.models import VM

_MIB, _GIB = 2**20, 2**30
_HOST = ("host",)

HOST_UP = Family("cumulet_host_up", "1 while the host speaks.", _HOST)
HEARTBEAT_AGE = Family("cumulet_host_heartbeat_age_seconds", "Since the host spoke last.", _HOST)
QUEUE_AGE = Family(
    "cumulet_host_queue_age_seconds",
    "Age of the oldest document that its host has not confirmed; 0 if there is none.",
    _HOST,
)
DRIFT_AGE = Family(
    "cumulet_host_drift_age_seconds",
    "How long a server of the host has not been as wanted, at most; 0 if all are.",
    _HOST,
)
CORES = Family("cumulet_host_cores", "Cores that may be promised to servers.", _HOST)
CORES_CLAIMED = Family("cumulet_host_cores_claimed", "Cores promised to servers.", _HOST)
MEMORY = Family("cumulet_host_memory_bytes", "Memory that may be promised to servers.", _HOST)
MEMORY_CLAIMED = Family("cumulet_host_memory_claimed_bytes", "Memory promised to servers.", _HOST)
DISK = Family("cumulet_host_disk_bytes", "Disk space that may be promised to servers.", _HOST)
DISK_CLAIMED = Family("cumulet_host_disk_claimed_bytes", "Disk space promised to servers.", _HOST)
DISK_FREE = Family("cumulet_host_disk_free_bytes", "Disk space that is really free.", _HOST)
SERVERS = Family("cumulet_servers", "Servers by host and status.", ("host", "status"))
ACTIONS_OPEN = Family("cumulet_actions_open", "Actions under way.")
ACTIONS_OPEN_AGE = Family(
    "cumulet_actions_open_age_seconds", "Age of the oldest Action under way; 0 without any."
)
ADDRESSES = Family("cumulet_addresses", "Addresses by pool, held or free.", ("pool", "state"))

FAMILIES = (
    *(HOST_UP, HEARTBEAT_AGE, QUEUE_AGE, DRIFT_AGE),
    *(CORES, CORES_CLAIMED, MEMORY, MEMORY_CLAIMED, DISK, DISK_CLAIMED, DISK_FREE),
    *(SERVERS, ACTIONS_OPEN, ACTIONS_OPEN_AGE, ADDRESSES),
)


class Inventory(Collector):
    """Fills every family anew at each scrape."""

    def collect(self) -> Iterator[Metric]:
        found, now = Found(FAMILIES), timezone.now()
        _hosts(found, now)
        _servers(found, now)
        _actions(found, now)
        _pools(found)
        return found.collect()


def _hosts(found: Found, now: datetime) -> None:
    for host in Host.objects.with_use():
        silent = host.is_silent(now, settings.HOST_SILENT_SECONDS)
        found.add(HOST_UP, not silent, host.name)
        if host.last_heartbeat:
            found.add(HEARTBEAT_AGE, _age(host.last_heartbeat, now), host.name)
        found.add(CORES, int(host.cores * settings.CPU_OVERCOMMIT), host.name)
        found.add(CORES_CLAIMED, host.used_cores, host.name)
        found.add(MEMORY, host.memory_mb * _MIB, host.name)
        found.add(MEMORY_CLAIMED, host.used_memory_mb * _MIB, host.name)
        found.add(DISK, host.disk_gb * _GIB, host.name)
        found.add(DISK_CLAIMED, host.used_disk_gb * _GIB, host.name)
        found.add(DISK_FREE, host.disk_free_gb * _GIB, host.name)


def _servers(found: Found, now: datetime) -> None:
    """A host with servers has both ages, be they 0."""
    waiting: dict[str, float] = {}
    drifting: dict[str, float] = {}
    for group in VM.objects.by_host_and_status():
        host = group["host__name"]
        found.add(SERVERS, group["count"], host, group["status"])
        waiting[host] = max(waiting.get(host, 0.0), _age(group["unconfirmed_since"], now))
        drifting[host] = max(drifting.get(host, 0.0), _age(group["drifting_since"], now))
    for family, ages in ((QUEUE_AGE, waiting), (DRIFT_AGE, drifting)):
        for host, age in ages.items():
            found.add(family, age, host)


def _actions(found: Found, now: datetime) -> None:
    open_now = Action.objects.open_since()
    found.add(ACTIONS_OPEN, open_now["count"])
    found.add(ACTIONS_OPEN_AGE, _age(open_now["since"], now))


def _pools(found: Found) -> None:
    for pool in Network.objects.with_use():
        found.add(ADDRESSES, pool.held_count, pool.name, "held")
        found.add(ADDRESSES, max(usable(pool) - pool.held_count, 0), pool.name, "free")


def _age(since: datetime | None, now: datetime) -> float:
    """Seconds; 0 if nothing is that old."""
    return max((now - since).total_seconds(), 0.0) if since else 0.0
