"""Pools of public addresses: added, described, never resized, as addresses may be lent already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from django.db import IntegrityError, transaction

from cloud.audit import changing, write
from cloud.errors import NotUnique, invalid
from cloud.models import Location
from networks.models import Network


@dataclass(frozen=True)
class Pool:
    """A pool as an operator describes it, all addresses as text."""

    name: str
    cidr: str
    location: Location
    excluded: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()


def ensure_pool(pool: Pool) -> Network:
    """Add the pool, or change what the one of this name and range excludes and resolves with.

    Raises InvalidInput, or NotUnique if the range overlaps another pool or the name is taken.
    """
    try:
        cidr = ip_network(pool.cidr)
    except ValueError as error:
        raise invalid("cidr", str(error)) from error
    if cidr.version != 4:
        raise invalid("cidr", f"{cidr} is not IPv4: public pools are IPv4 for now")
    wanted = {
        "location": pool.location,
        "excluded": _addresses("excluded", pool.excluded, cidr.version),
        "dns": _addresses("dns", pool.dns),
    }
    try:
        with transaction.atomic():
            same = {"name": pool.name, "kind": Network.Kind.PUBLIC, "ip_range": str(cidr)}
            known = Network.objects.select_for_update().filter(**same).first()
            network = known or Network(**same)
            with changing(network, "update" if known else "add"):
                for field, value in wanted.items():
                    setattr(network, field, value)
                network.save()
                network.refresh_from_db(fields=["ip_range"])
    except IntegrityError as error:
        raise NotUnique(
            "cidr",
            f"{cidr} overlaps a pool, or the name {pool.name!r} is taken by another range",
        ) from error
    return network


def describe_pool(
    network: Network, *, name: str, excluded: Iterable[str], dns: Iterable[str]
) -> None:
    """Rename the pool, change what it excludes and resolves with; lent addresses stay lent.

    Raises InvalidInput, NotUnique (name), or Conflict if another request did so meanwhile.
    """
    version = ip_network(str(network.ip_range)).version
    lists = {"excluded": _addresses("excluded", excluded, version), "dns": _addresses("dns", dns)}
    try:
        write(network, {"name": name, **lists})
    except IntegrityError as error:
        raise NotUnique("name", f"network name {name!r} is already used") from error


def usable(network: Network) -> int:
    """Addresses that can be lent at most: all but network, broadcast and the excluded ones."""
    total: int = network.ip_range.num_addresses
    inside = sum(ip_address(text) in network.ip_range for text in network.excluded)
    return max(total - 2 - inside, 0)


def _addresses(field: str, texts: Iterable[str], version: int | None = None) -> list[str]:
    """The addresses in their usual form; all of the IP `version`, if one is given."""
    try:
        addresses = [ip_address(text) for text in texts]
    except ValueError as error:
        raise invalid(field, str(error)) from error
    for address in addresses:
        if version not in (None, address.version):
            raise invalid(field, f"{address} is not IPv{version}")
    return [str(address) for address in addresses]
