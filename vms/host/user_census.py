"""`vms.host.census` on a host in user mode: switches, ways outside, ports to guests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from networks.host import outlets
from networks.host.outside_orders import Orders, Place
from vms.drift import things
from vms.drift.spec import Kind, Thing
from vms.host import vde_networks
from vms.host.host import Host
from vms.host.paths import MOST_NICS, number_of

_INDICES = tuple(map(str, range(MOST_NICS)))


def look(host: Host) -> Iterator[Thing]:
    """Raises OSError."""
    for entry in sorted(host.paths.gateways.iterdir()):
        network_id = number_of(entry.name)
        if network_id is not None and vde_networks.stands(host, network_id):
            yield things.switch(network_id)
    for entry in sorted(host.paths.outlets.iterdir()):
        number, _, index = entry.name.partition("-")
        vm_id = number_of(number)
        if vm_id is None or index not in _INDICES:
            yield Thing(Kind.OUTLET, entry.name)
            continue
        if outlets.find(entry) is None:
            continue
        yield things.outlet(vm_id, int(index))
        with suppress(OSError, ValueError, TypeError, KeyError):
            for one in Orders.decode(Place(entry).orders.read_bytes()).forwards:
                yield things.port(vm_id, one.protocol, one.port, one.guest_port)
