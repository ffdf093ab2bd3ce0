"""Stories of private networks and of who is in them; see `tests.db.stories`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from networks.models import PrivateNetwork
from tests import factories as make
from tests.db import mesh
from tests.db.stories import story
from vms.models import VM
from vms.private import actions, servers
from vms.private.actions import (
    RouteOrder,
    SubnetOrder,
    add_route,
    add_subnet,
    change_ip_range,
    change_network_protection,
    create_network,
    delete_network,
    delete_route,
    delete_subnet,
    update_network,
)
from vms.private.servers import attach_to_network, change_alias_ips, detach_from_network

MODULES = (actions, servers)
# They are part of the making of a server, or compute.
SILENT: tuple[Callable[..., Any], ...] = (servers.attach_new, servers.errand)
WAY = RouteOrder("192.168.0.0/16", "10.0.0.2")


def member() -> tuple[VM, PrivateNetwork]:
    mesh.host(1)
    make.image()
    network = mesh.network()
    return mesh.server("web-1", network), network


@story("network.create", create_network)
def _() -> None:
    mesh.network()


@story("network.update", update_network)
def _() -> None:
    update_network(mesh.network(), egress=True)


@story("network.change_protection", change_network_protection)
def _() -> None:
    change_network_protection(mesh.network(), delete=True)


@story("network.add_subnet", add_subnet)
def _() -> None:
    add_subnet(mesh.network(), SubnetOrder("cloud", "local"))


@story("network.delete_subnet", delete_subnet)
def _() -> None:
    delete_subnet(mesh.network(), "10.0.0.0/24")


@story("network.add_route", add_route)
def _() -> None:
    add_route(mesh.network(), WAY)


@story("network.delete_route", delete_route)
def _() -> None:
    network = mesh.network()
    add_route(network, WAY)
    delete_route(network, WAY)


@story("network.change_ip_range", change_ip_range)
def _() -> None:
    change_ip_range(mesh.network(), "10.0.0.0/8")


@story("network.delete", delete_network)
def _() -> None:
    delete_network(mesh.network())


@story("nic.attach", attach_to_network)
def _() -> None:
    vm, _ = member()
    attach_to_network(vm, mesh.network("storage", "10.1.0.0/16"))


@story("nic.detach", detach_from_network)
def _() -> None:
    detach_from_network(*member())


@story("nic.change_alias_ips", change_alias_ips)
def _() -> None:
    change_alias_ips(*member(), ["10.0.0.9"])
