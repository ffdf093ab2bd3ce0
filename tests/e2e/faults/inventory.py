"""What the database says there should be: read past the API, so that its defects show too."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg2

from deploy import postgres
from deploy.state import Instance

_SERVERS = """
    SELECT vm.id, vm.uuid::text, vm.name, host.name, vm.goal = 'running', vm.deleting,
           vm.status, vm.converged, vm.failure_code,
           COALESCE(array_agg(nic.index) FILTER (WHERE nic.id IS NOT NULL), '{}'),
           COALESCE(array_agg(host(a4.ip)) FILTER (WHERE a4.id IS NOT NULL), '{}'),
           COALESCE(array_agg(host(a6.ip)) FILTER (WHERE a6.id IS NOT NULL), '{}')
    FROM vms_vm vm
    JOIN cloud_host host ON host.id = vm.host_id
    LEFT JOIN vms_nic nic ON nic.vm_id = vm.id
    LEFT JOIN networks_primaryip p4 ON p4.id = nic.ipv4_id
    LEFT JOIN networks_address a4 ON a4.id = p4.address_id
    LEFT JOIN networks_primaryip p6 ON p6.id = nic.ipv6_id
    LEFT JOIN networks_address a6 ON a6.id = p6.address_id
    GROUP BY vm.id, host.name
    ORDER BY vm.id
"""
_OPEN_ACTIONS = """
    SELECT id, command, extract(epoch FROM started), deadline < now()
    FROM cloud_action WHERE status = 'running' ORDER BY id
"""
# Lent to nobody, although their time is not over.
_LOST_ADDRESSES = """
    SELECT host(address.ip), address.state
    FROM networks_address address
    WHERE address.released_at IS NULL AND NOT EXISTS (
        SELECT FROM vms_nic nic
        JOIN networks_primaryip ip ON ip.id IN (nic.ipv4_id, nic.ipv6_id)
        WHERE ip.address_id = address.id
    )
"""
_FREE_DISK = "SELECT name, disk_free_gb FROM cloud_host"
_LETTERS = "SELECT queue, sum(times)::int FROM cloud_deadletter GROUP BY queue"
_PLACES = "SELECT action_id, host FROM cloud_actionstep WHERE name = 'placed'"


@dataclass(frozen=True)
class Server:
    id: int
    uuid: str
    name: str
    host: str
    runs: bool
    deleting: bool
    status: str
    converged: bool
    failure: str
    nics: tuple[int, ...]
    addresses: frozenset[str]

    @property
    def in_order(self) -> bool:
        wanted = "running" if self.runs else "off"
        return self.status == wanted and self.converged and not self.deleting


@dataclass(frozen=True)
class OpenAction:
    """`started` in Unix seconds."""

    id: int
    command: str
    started: float
    overdue: bool

    def __str__(self) -> str:
        return f"action {self.id} {self.command}{' past its deadline' if self.overdue else ''}"


@dataclass(frozen=True)
class Inventory:
    servers: tuple[Server, ...]
    open_actions: tuple[OpenAction, ...]
    lost_addresses: tuple[str, ...]

    def on(self, host: str) -> list[Server]:
        return [server for server in self.servers if server.host == host]


def read(instance: Instance) -> Inventory:
    with closing(psycopg2.connect(postgres.url(instance), connect_timeout=5)) as connection:
        servers = [
            Server(*row[:9], nics=tuple(row[9]), addresses=frozenset([*row[10], *row[11]]))
            for row in _ask(connection, _SERVERS)
        ]
        actions = [OpenAction(*row) for row in _ask(connection, _OPEN_ACTIONS)]
        lost = [f"{ip} ({state})" for ip, state in _ask(connection, _LOST_ADDRESSES)]
    return Inventory(tuple(servers), tuple(actions), tuple(lost))


def places(instance: Instance) -> dict[int, str]:
    """The host that each Action's server was placed on."""
    with closing(psycopg2.connect(postgres.url(instance), connect_timeout=5)) as connection:
        return dict(_ask(connection, _PLACES))  # type: ignore[arg-type]  # rows of two


def free_disk(instance: Instance) -> dict[str, int]:
    """GiB that are free on the hosts' disks, as they said last."""
    with closing(psycopg2.connect(postgres.url(instance), connect_timeout=5)) as connection:
        return dict(_ask(connection, _FREE_DISK))  # type: ignore[arg-type]  # rows of two


def dead_letters(instance: Instance) -> Counter[str]:
    """How many messages of each queue nobody could take."""
    with closing(psycopg2.connect(postgres.url(instance), connect_timeout=5)) as connection:
        return Counter(dict(_ask(connection, _LETTERS)))


def _ask(connection: Any, query: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
