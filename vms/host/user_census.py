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


def look(host: Host) -> Iterator[Thing]:
    """Raises OSError."""
    for entry in sorted(host.paths.gateways.iterdir()):
        if entry.name.isdigit() and vde_networks.stands(host, int(entry.name)):
            yield things.switch(int(entry.name))
    for entry in sorted(host.paths.outlets.iterdir()):
        vm_id, dash, index = entry.name.partition("-")
        if not (vm_id.isdigit() and dash and index.isdigit()):
            yield Thing(Kind.OUTLET, entry.name)
            continue
        if outlets.find(entry) is None:
            continue
        yield things.outlet(int(vm_id), int(index))
        with suppress(OSError, ValueError, TypeError, KeyError):
            for one in Orders.decode(Place(entry).orders.read_bytes()).forwards:
                yield things.port(int(vm_id), one.protocol, one.port, one.guest_port)
