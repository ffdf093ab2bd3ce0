"""The star of cables of each private network with hosts in user mode, kept as it should be.

It is chosen anew whenever hosts are told of the network; `badly_wired` finds those networks whose
hub fell silent, was cut off, or could be better by now, of which nobody else would tell, and
`unwired` those that had nobody to be their hub before.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.conf import settings

from cloud.models import Host
from networks.models import PrivateNetwork
from networks.private.cabling import Station, arrange
from networks.private.querysets import PrivateNetworkQuerySet


def hosts_of(network: PrivateNetwork) -> dict[int, Host]:
    """Those with members that they can connect."""
    return Host.objects.taking_members().filter(vms__nics__network=network).distinct().in_bulk()


def stations_of(hosts: Collection[Host], now: datetime) -> list[Station]:
    """The hosts that have members, and all that could be their hub; none if nobody needs one."""
    if not any(host.in_user_mode for host in hosts):
        return []
    members = {host.pk for host in hosts}
    others = Host.objects.accepting_cables().exclude(pk__in=members)
    return [_station(host, now, member=host.pk in members) for host in (*hosts, *others)]


def rewire(network: PrivateNetwork, now: datetime) -> None:
    """Choose the network's hub. Call with the network locked."""
    stations = stations_of(hosts_of(network).values(), now)
    star = arrange(stations, network.star)
    if star != network.star:
        network.hub_id, network.cable_layout = star.hub, star.layout
        network.save(update_fields=["hub", "cable_layout"])


def badly_wired(now: datetime) -> PrivateNetworkQuerySet:
    """Networks whose hub is not one of the best that there are; `rewire` mends each of them.

    Only those with hosts in user mode have one, so it costs what those are.
    """
    best = _best_hubs(now)
    hubbed = PrivateNetwork.objects.filter(hub__isnull=False)
    return hubbed.exclude(hub__in=best) if best else hubbed.none()


def unwired(now: datetime) -> PrivateNetworkQuerySet:
    """Networks that need a hub, have none, and could have one; looks at all their servers."""
    cabled = PrivateNetwork.objects.cabled().filter(hub=None)
    return cabled if _best_hubs(now) else cabled.none()


def _best_hubs(now: datetime) -> set[int]:
    speaking = Host.objects.speaking(now, settings.HOST_SILENT_SECONDS)
    hubs = speaking.accepting_cables()
    gateways = hubs.in_mesh()
    return set(gateways.numbers()) or set(hubs.numbers())


def _station(host: Host, now: datetime, *, member: bool) -> Station:
    return Station(
        host_id=host.pk,
        name=host.name,
        endpoint=host.cable_endpoint or None if host.cables else None,
        meshed=host.in_mesh,
        speaking=not host.is_silent(now, settings.HOST_SILENT_SECONDS),
        member=member,
    )
