"""Pools of public addresses: added, described, never resized, as addresses may be lent already.

Doors change them by `vms.pools`, which tells the servers with addresses of one.

No pool overlaps another, nor the fabric that hosts and control talk through, nor their mesh: a
guest could take one of their addresses. A bridged pool is the exception, because it *is* the
network of uplinks: it may be one of the fabric's networks, whole, and its hosts' own addresses are
never lent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from django.conf import settings
from django.db import transaction
from django.db.models import ProtectedError

from cloud.audit import changing, write
from cloud.constraints import refused_by
from cloud.errors import InUse, NotUnique, invalid
from cloud.models import Host, Location, Project
from networks.addressing import IpAddress, IpNetwork, lendable, unit_of
from networks.models import Network
from networks.spec import ROUTED_GATEWAY

_MODES = set(Network.Mode.values)
# Constraints of the database; PostgreSQL itself named the first.
_NAME, _RANGE = "networks_network_name_key", "public_ranges_never_overlap"
# Nobody's, or every guest's way out.
_NEVER_POOLS = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", ROUTED_GATEWAY),
        *("::/8", "fe80::/10", "ff00::/8"),
    )
)
# IPv6 is lent in networks of /64; nobody owns more than a /32.
_SHORTEST6, _LONGEST6 = 32, 64


@dataclass(frozen=True)
class Pool:
    """A pool as an operator describes it, all addresses as text.

    `gateway` and `dhcp` are for bridged pools; with `dhcp` the outside network gives addresses.
    """

    name: str
    cidr: str
    location: Location
    excluded: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    mode: str = Network.Mode.ROUTED
    gateway: str | None = None
    dhcp: bool = False
    owner: Project | None = None


def ensure_pool(pool: Pool) -> Network:
    """Add the pool, or change what the one of this name and range excludes and resolves with.

    Raises InvalidInput, or NotUnique if the range overlaps another pool or the name is taken.
    """
    cidr = _range(pool.cidr)
    _check_mode(pool, cidr)
    _check_fabric(pool, cidr)
    wanted = {
        "location": pool.location,
        "mode": pool.mode,
        "gateway": str(_gateway(pool, cidr)) if pool.gateway else None,
        "dhcp": pool.dhcp,
        "owner": pool.owner,
        "excluded": _excluded(pool.excluded, cidr),
        "dns": _addresses("dns", pool.dns),
    }
    taken = NotUnique(
        "cidr", f"{cidr} overlaps a pool, or the name {pool.name!r} is taken by another range"
    )
    with refused_by(dict.fromkeys((_NAME, _RANGE), taken)), transaction.atomic():
        same = {"name": pool.name, "kind": Network.Kind.PUBLIC, "ip_range": str(cidr)}
        known = Network.objects.select_for_update(no_key=True).filter(**same).first()
        if known:
            _check_unchanged(known, pool)
        network = known or Network(**same)
        with changing(network, "update" if known else "add"):
            for field, value in wanted.items():
                setattr(network, field, value)
            network.save()
            network.refresh_from_db(fields=["ip_range", "gateway"])
    return network


def describe_pool(
    network: Network, *, name: str, excluded: Iterable[str], dns: Iterable[str]
) -> None:
    """Rename the pool, change what it excludes and resolves with; lent addresses stay lent.

    Raises InvalidInput, NotUnique (name), or Conflict if another request did so meanwhile.
    """
    cidr = ip_network(str(network.ip_range))
    lists = {"excluded": _excluded(excluded, cidr), "dns": _addresses("dns", dns)}
    with refused_by({_NAME: NotUnique("name", f"network name {name!r} is already used")}):
        write(network, {"name": name, **lists})


def remove_pool(network: Network) -> None:
    """Forget a pool of which nothing was ever lent; raises InUse.

    A pool with a history stays for the ledger's sake: it can be emptied by excluding all of it.
    """
    held = network.addresses.held().count()
    if held:
        raise InUse(
            f"pool {network} is still in use: {held} of its addresses are lent or in quarantine"
        )
    try:
        with transaction.atomic(), changing(network, "delete"):
            network.delete()
    except ProtectedError as error:
        raise InUse(
            f"pool {network} is still in use: servers or the history of its addresses need it;"
            " exclude its whole range to lend no more of it"
        ) from error


def usable(network: Network) -> int:
    """Addresses, or networks of /64, that can be lent at most; none where outside DHCP does it."""
    if network.dhcp:
        return 0
    cidr = ip_network(str(network.ip_range))
    return lendable(cidr, (ip_network(text) for text in network.excluded))


def _range(text: str) -> IpNetwork:
    try:
        cidr = ip_network(text)
    except ValueError as error:
        raise invalid("cidr", str(error)) from error
    if cidr.version == 6 and not _SHORTEST6 <= cidr.prefixlen <= _LONGEST6:
        raise invalid("cidr", f"{cidr} is not from /{_SHORTEST6} to /{_LONGEST6}")
    for never in _NEVER_POOLS:
        if never.version == cidr.version and never.overlaps(cidr):
            raise invalid("cidr", f"{cidr} overlaps {never}, of which no server can have a part")
    return cidr


def _check_mode(pool: Pool, cidr: IpNetwork) -> None:
    if pool.mode not in _MODES:
        raise invalid("mode", f"{pool.mode!r} is not one of {', '.join(sorted(_MODES))}")
    bridged = pool.mode == Network.Mode.BRIDGED
    if not bridged and (pool.gateway or pool.dhcp):
        field = "gateway" if pool.gateway else "dhcp"
        raise invalid(field, "is for bridged pools only: hosts are the gateway of routed guests")
    if bridged and not (pool.gateway or pool.dhcp):
        raise invalid("gateway", "a bridged pool needs the gateway of its network, or --dhcp")
    if pool.dhcp and cidr.version == 6:
        raise invalid("dhcp", "is for IPv4: guests configure IPv6 themselves")


def _check_unchanged(network: Network, pool: Pool) -> None:
    """Raises InvalidInput if servers have addresses for which the change would not hold."""
    if not (network.addresses.held().exists() or network.dhcp_nics.exists()):
        return
    fixed = {"location": pool.location, "mode": pool.mode, "dhcp": pool.dhcp}
    for field, wanted in fixed.items():
        if getattr(network, field) != wanted:
            raise invalid(field, f"pool {network} is in use: its {field} stays as it is")
    if pool.gateway:
        unit = unit_of(ip_address(pool.gateway))
        if network.addresses.held().filter(ip=str(unit)).exists():
            raise invalid("gateway", f"{pool.gateway} is lent to a server: choose another")


def _gateway(pool: Pool, cidr: IpNetwork) -> IpAddress:
    (text,) = _addresses("gateway", [str(pool.gateway)], cidr.version)
    gateway = ip_address(text)
    if gateway not in cidr and not gateway.is_link_local:
        raise invalid("gateway", f"{gateway} is not in {cidr}")
    return gateway


def _check_fabric(pool: Pool, cidr: IpNetwork) -> None:
    """Raises InvalidInput where guests could get the addresses of hosts or of the cloud itself."""
    bridged = pool.mode == Network.Mode.BRIDGED
    tunnels = ip_network(settings.TUNNEL_RANGE)
    if tunnels.version == cidr.version and tunnels.overlaps(cidr):
        raise invalid("cidr", f"{cidr} overlaps {tunnels}, the mesh of private networks")
    for network in settings.FABRIC:
        if network.version == cidr.version and network.overlaps(cidr):
            if not bridged:
                raise invalid("cidr", f"{cidr} overlaps the fabric {network}")
            if network != cidr:
                raise invalid("cidr", f"{cidr} is only a part of, or more than, fabric {network}")
    for host in Host.objects.exclude(uplink_ip=None).select_related("location"):
        if ip_address(str(host.uplink_ip)) not in cidr:
            continue
        if not bridged or host.location != pool.location:
            raise invalid("cidr", f"{cidr} holds {host.uplink_ip}, the address of host {host}")


def _excluded(texts: Iterable[str], cidr: IpNetwork) -> list[str]:
    """Addresses and networks in their usual form, all of the pool's family."""
    shown = []
    for text in texts:
        try:
            network = ip_network(text)
        except ValueError as error:
            raise invalid("excluded", str(error)) from error
        if network.version != cidr.version:
            raise invalid("excluded", f"{text} is not IPv{cidr.version}")
        single = network.prefixlen == network.max_prefixlen
        shown.append(str(network.network_address if single else network))
    return shown


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
