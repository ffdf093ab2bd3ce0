"""How much of what a host says that it holds takes something from others: a host may lie.

What answers the question after a restore is believed, as far as it is of the host's own location.
At any other time nobody's word takes what the inventory says that another server has, and a host
can name no more than a bounded number of servers and addresses; what is more is still listed as
drift. What was believed once stays so, until the host has it no more or is cut off.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, ip_interface, ip_network
from typing import Final

from django.db.models import Q
from msgspec import structs

from cloud.models import Host
from networks.addressing import unit_of
from networks.allocation import release_reserved
from networks.models import Network, Replica
from vms.drift.spec import MOST_HELD, HeldServer
from vms.models import Holding, Nic

# Of one host: servers that the inventory does not know as the host has them, and their addresses.
MOST_UNKNOWN: Final = 256


@dataclass(frozen=True)
class Claim:
    """A server as far as its host is believed. `units`: of its public addresses."""

    server: HeldServer
    units: Mapping[str, str]

    def without(self, addresses: Collection[str]) -> set[str]:
        """The units of all but these addresses."""
        return {unit for text, unit in self.units.items() if text not in addresses}


def believed(
    host: Host, held: Iterable[HeldServer], noted: Mapping[str, Holding], *, restored: bool
) -> list[Claim]:
    """What is to be noted, by UUID, and what is already first, so that nothing else displaces it.

    `noted`: those that are already; `restored`: the host answers what it was asked after a restore.
    """
    most = MOST_HELD if restored else MOST_UNKNOWN
    ordered = sorted(held, key=lambda one: (one.uuid not in noted, one.uuid))
    # A restore may have noted more of them, and those run on.
    ordered = ordered[: max(most, sum(one.uuid in noted for one in ordered))]
    if not ordered:
        return []
    addresses = _Addresses(host, noted, most)
    units = {one.uuid: addresses.of(one) for one in ordered}
    if not restored:
        holders = _holders({unit for its in units.values() for unit in its.values()})
        for one in ordered:
            units[one.uuid] = {
                text: unit
                for text, unit in units[one.uuid].items()
                if addresses.is_noted(one, text) or holders.get(unit, one.uuid) == one.uuid
            }
    networks = set(Replica.objects.filter(host=host).values_list("network", flat=True))
    return [
        Claim(
            structs.replace(
                one,
                addresses=tuple(units[one.uuid]),
                private=tuple(
                    structs.replace(its, addresses=tuple(filter(_is_ipv4, its.addresses)))
                    for its in one.private
                    if its.network_id in networks
                ),
            ),
            units[one.uuid],
        )
        for one in ordered
    ]


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Network(text)
    except ValueError:
        return False
    return True


class _Addresses:
    """Which public addresses of a host's servers are of its location's pools, within a bound."""

    def __init__(self, host: Host, noted: Mapping[str, Holding], most: int) -> None:
        pools = Network.objects.public().filter(location=host.location_id)
        self._ranges = [ip_network(str(one)) for one in pools.values_list("ip_range", flat=True)]
        self._noted = {uuid: set(row.addresses) for uuid, row in noted.items()}
        self._left = most - sum(map(len, self._noted.values()))

    def is_noted(self, server: HeldServer, text: str) -> bool:
        return text in self._noted.get(server.uuid, ())

    def of(self, server: HeldServer) -> dict[str, str]:
        """As the host writes them → the units of their pools."""
        units = {}
        for text in server.addresses:
            unit = self._unit(text)
            if unit is None or text in units:
                continue
            if not self.is_noted(server, text):
                self._left -= 1
                if self._left < 0:
                    continue
            units[text] = unit
        return units

    def _unit(self, text: str) -> str | None:
        try:
            unit = unit_of(ip_interface(text).ip)
        except ValueError:
            return None
        return str(unit) if any(unit in its for its in self._ranges) else None


def _holders(units: Collection[str]) -> dict[str, str]:
    """Those of these addresses that servers have by the inventory → the UUIDs of the servers."""
    nics = Nic.objects.filter(
        Q(ipv4__address__ip__in=units)
        | Q(ipv6__address__ip__in=units)
        | Q(floating__floating_ip__address__ip__in=units)
    )
    ips = ("ipv4__address__ip", "ipv6__address__ip", "floating__floating_ip__address__ip")
    return {
        str(ip): str(uuid)
        for uuid, *theirs in nics.values_list("vm__uuid", *ips)
        for ip in theirs
        if ip is not None
    }


def forget(host: Host, now: datetime) -> None:
    """Nothing that the host said of its servers counts any more."""
    for row in Holding.objects.filter(host=host).order_by("pk"):
        drop(row, now)


def drop(row: Holding, now: datetime) -> None:
    number = row.pk
    row.delete()
    release_reserved(number, now)
