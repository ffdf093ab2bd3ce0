"""Which hosts of a private network lay cables to which: a star, which has no loop. Pure.

Hosts in user mode have no part in the mesh. Their switches are joined by cables to one hub; where
a host of the mesh can be that, it is the network's gateway for them and bridges both worlds. Each
new hub begins a layout of its own number, and the ends of a cable know each other by it: a host is
in one layout at a time, so whatever mix of documents hosts hold, stars of two layouts do not touch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from networks.spec import CableSpec, CablesSpec


@dataclass(frozen=True)
class Station:
    """A host as cables see it. `endpoint`: where it accepts them; None: nowhere.

    `meshed`: it has tunnels, so it can be a gateway; otherwise it is in user mode.
    """

    host_id: int
    name: str
    endpoint: str | None
    meshed: bool = False
    speaking: bool = True
    member: bool = False

    @property
    def spoke(self) -> bool:
        return self.member and not self.meshed


@dataclass(frozen=True)
class Star:
    """`hub`: a host's id, None where nobody needs or can be one; `layout` counts hubs."""

    hub: int | None = None
    layout: int = 0


def arrange(stations: Collection[Station], present: Star) -> Star:
    """The star that there should be. The present hub stays as long as it is as good as any.

    Silence alone takes no hub away where no other one speaks.
    """
    able = [one for one in stations if one.endpoint]
    if not any(one.spoke for one in stations) or not able:
        return Star(None, present.layout)
    best = max(map(_fitness, able))
    equals = [one for one in able if _fitness(one) == best]
    if any(one.host_id == present.hub for one in equals):
        return present
    hub = min(equals, key=lambda one: (not one.member, one.host_id))
    return Star(hub.host_id, present.layout + 1)


def cables(stations: Collection[Station], star: Star) -> dict[int, CablesSpec]:
    """By host, its ends of the star's cables."""
    hub = next((one for one in stations if one.host_id == star.hub), None)
    if hub is None or hub.endpoint is None:
        return {}
    spokes = [one for one in stations if one.spoke and one.host_id != hub.host_id]
    uplink = CableSpec(hub.name, hub.endpoint)
    laid = {one.host_id: CablesSpec(star.layout, uplink=uplink) for one in spokes}
    laid[hub.host_id] = CablesSpec(star.layout, accepts=tuple(sorted(one.name for one in spokes)))
    return laid


def _fitness(station: Station) -> tuple[bool, bool]:
    """A hub that speaks before one that does not, and a gateway before a mere switch."""
    return station.speaking, station.meshed
