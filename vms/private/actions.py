"""What a user may ask of a private network. Every door calls these functions.

A change is desired from the moment of its commit: hosts with members hear of it then, and its
Action waits for none of them. Servers whose routes change get their next generation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import transaction

from cloud.actions import done_at_once
from cloud.audit import changing, created, write
from cloud.errors import CumuletError, LimitExceeded, Protected, Unsupported, invalid
from cloud.labels import check_labels
from cloud.locks import hold_project
from cloud.models import Action, Location, Project
from cloud.naming import check_name, names_are_unique
from networks.models import PrivateNetwork, Route, Subnet
from networks.private.layout import Layout, check_range, overlap
from vms.errands import ask_anew, lock_vm
from vms.intent import tell_anew
from vms.models import VM, Nic
from vms.private.membership import NetworksOverlap, existing, leave
from vms.private.replication import replicate
from vms.private.servers import DETACH, errand

VSWITCH = "vswitch"


class ServersAttached(CumuletError):
    """Servers have addresses of the subnet (HTTP 422)."""


@dataclass(frozen=True)
class SubnetOrder:
    """A subnet as a user asks for it; without `ip_range`, the first /24 that is free."""

    type: str
    network_zone: str
    ip_range: str | None = None


@dataclass(frozen=True)
class RouteOrder:
    destination: str
    gateway: str


@dataclass(frozen=True)
class NetworkOrder:
    """What a user asked for when creating a network."""

    name: str
    ip_range: str
    subnets: Sequence[SubnetOrder] = ()
    routes: Sequence[RouteOrder] = ()
    labels: dict[str, str] = field(default_factory=dict)
    expose_routes_to_vswitch: bool = False
    egress: bool = False


def create_network(project: Project, order: NetworkOrder) -> PrivateNetwork:
    """Make a network; no host hears of it before a server joins.

    Raises InvalidInput, Unsupported, NotUnique (name) or LimitExceeded.
    """
    layout = Layout(check_range(order.ip_range))
    network = PrivateNetwork(
        project=project,
        name=check_name(order.name),
        ip_range=str(layout.ip_range),
        labels=check_labels(order.labels),
        expose_routes_to_vswitch=order.expose_routes_to_vswitch,
        egress=order.egress,
    )
    with _names_are_unique(order.name), transaction.atomic():
        hold_project(project.pk)
        if project.private_networks.existing().count() >= settings.PROJECT_NETWORKS:
            raise LimitExceeded(
                "network_limit",
                f"project {project} may have {settings.PROJECT_NETWORKS} networks: delete some, or"
                " ask the operator for more",
            )
        network.save()
        for subnet in order.subnets:
            layout = _write_subnet(network, layout, subnet)
        for route in order.routes:
            layout = _write_route(network, layout, route)
        created(network)
    return network


def update_network(network: PrivateNetwork, **changes: Any) -> PrivateNetwork:
    """Change name, labels, expose_routes_to_vswitch or egress.

    Raises InvalidInput, NotUnique, NotFound, or Conflict (changed meanwhile).
    """
    checks = {"name": check_name, "labels": check_labels}
    wanted = {key: checks[key](value) if key in checks else value for key, value in changes.items()}
    if wanted:
        with _names_are_unique(changes.get("name")), transaction.atomic():
            hold_project(network.project_id)
            rerouted = wanted.get("egress", network.egress) != network.egress
            write(network, wanted)
            if rerouted:
                _tell_members(network)
            replicate([network.pk])
    return network


def change_network_protection(network: PrivateNetwork, *, delete: bool) -> Action:
    """Switch protection on or off, at once. Raises Conflict."""
    with transaction.atomic():
        action = _done(network, "change_protection")
        write(network, {"delete_protection": delete}, "change_protection", action)
        return action


def delete_network(network: PrivateNetwork) -> list[Action]:
    """Detach all servers and forget the network; raises Protected or NotFound.

    Its row stays, unseen, until no host has anything of it. Answers an Action for each server.
    """
    with _held(network) as network:
        if network.delete_protection:
            raise Protected(f"network {network} is protected from deletion: remove the protection")
        members = _lock_members(network)
        with changing(network, "delete"):
            for nic in Nic.objects.filter(network=network).select_related("vm__project"):
                leave(nic)
            network.deleting = True
            network.save(update_fields=["deleting"])
        staying = [vm for vm in members if not vm.deleting]
        actions = [ask_anew(vm, errand(network, DETACH)) for vm in staying]
        replicate([network.pk])
        return actions


def add_subnet(network: PrivateNetwork, order: SubnetOrder) -> Action:
    """Raises InvalidInput, Unsupported, LimitExceeded or NotFound."""
    with _changing(network, "add_subnet") as (network, action):
        _write_subnet(network, network.layout, order)
        replicate([network.pk])
        return action


def delete_subnet(network: PrivateNetwork, ip_range: str) -> Action:
    """Raises InvalidInput, ServersAttached or NotFound."""
    with _changing(network, "delete_subnet") as (network, action):
        layout = network.layout
        left = layout.without_subnet(ip_range)
        (subnet,) = set(layout.subnets) - set(left.subnets)
        if network.addresses.filter(ip__net_contained_or_equal=str(subnet)).exists():
            raise ServersAttached(
                f"cannot remove subnet {subnet} because servers are attached to it: detach them"
            )
        network.subnets.filter(ip_range=str(subnet)).delete()
        replicate([network.pk])
        return action


def add_route(network: PrivateNetwork, order: RouteOrder) -> Action:
    """Raises InvalidInput, LimitExceeded or NotFound."""
    with _changing(network, "add_route") as (network, action):
        _write_route(network, network.layout, order)
        _tell_members(network)
        replicate([network.pk])
        return action


def delete_route(network: PrivateNetwork, order: RouteOrder) -> Action:
    """Raises InvalidInput or NotFound."""
    with _changing(network, "delete_route") as (network, action):
        layout = network.layout
        left = layout.without_way(order.destination, order.gateway)
        (way,) = set(layout.ways) - set(left.ways)
        network.routes.filter(destination=str(way.destination)).delete()
        _tell_members(network)
        replicate([network.pk])
        return action


def change_ip_range(network: PrivateNetwork, ip_range: str) -> Action:
    """Widen the network; raises InvalidInput, NetworksOverlap (of a member) or NotFound."""
    with _changing(network, "change_ip_range") as (network, action):
        layout = network.layout.widened(ip_range)
        _check_members(network, layout)
        network.ip_range = str(layout.ip_range)
        network.save(update_fields=["ip_range"])
        _tell_members(network)
        replicate([network.pk])
        return action


def _write_subnet(network: PrivateNetwork, layout: Layout, order: SubnetOrder) -> Layout:
    if order.type == VSWITCH:
        raise Unsupported("this cloud has no vSwitches: use a subnet of type cloud")
    if order.type not in Subnet.Type.values:
        raise invalid("type", f"{order.type!r} is not one of {', '.join(Subnet.Type.values)}")
    if not Location.objects.filter(network_zone=order.network_zone).exists():
        raise invalid("network_zone", f"{order.network_zone!r} not found: see /locations")
    layout = layout.with_subnet(order.ip_range)
    Subnet.objects.create(
        network=network,
        type=order.type,
        network_zone=order.network_zone,
        ip_range=str(layout.subnets[-1]),
    )
    return layout


def _write_route(network: PrivateNetwork, layout: Layout, order: RouteOrder) -> Layout:
    layout = layout.with_way(order.destination, order.gateway)
    way = layout.ways[-1]
    Route.objects.create(
        network=network, destination=str(way.destination), gateway=str(way.gateway)
    )
    return layout


def _check_members(network: PrivateNetwork, layout: Layout) -> None:
    """Raises NetworksOverlap if a server is in another network that the wider one would touch."""
    others = PrivateNetwork.objects.filter(
        nics__vm__in=network.nics.values("vm"), nics__network__isnull=False
    )
    ranges = [other.layout.ip_range for other in others.exclude(pk=network.pk).distinct()]
    if other := overlap(ranges, layout.ip_range):
        raise NetworksOverlap(
            f"servers of network {network} are in another one, {other}: {layout.ip_range} overlaps"
            " that"
        )


def _lock_members(network: PrivateNetwork) -> list[VM]:
    """The servers in the network, locked in the order of their ids."""
    members = VM.objects.filter(pk__in=network.nics.values("vm")).order_by("pk")
    return list(members.select_for_update(of=("self",)))


def _tell_members(network: PrivateNetwork) -> None:
    """Raise the generation of every server in the network, as its interface changes."""
    for vm in _lock_members(network):
        if not vm.deleting:
            tell_anew(lock_vm(vm.pk))


@contextmanager
def _held(network: PrivateNetwork) -> Iterator[PrivateNetwork]:
    """The network as it is now; nobody else changes networks of the project meanwhile."""
    with transaction.atomic():
        hold_project(network.project_id)
        yield existing(network)


@contextmanager
def _changing(network: PrivateNetwork, verb: str) -> Iterator[tuple[PrivateNetwork, Action]]:
    """Like `_held`, with the Action that tells of the change, and its audit entry."""
    with _held(network) as now, changing(now, verb) as change:
        change.action = _done(now, verb)
        yield now, change.action


def _done(network: PrivateNetwork, command: str) -> Action:
    """An Action about the network itself, which waits for no host."""
    return done_at_once(network.project, command, (network.resource, network.pk))


def _names_are_unique(name: str | None) -> AbstractContextManager[None]:
    return names_are_unique("network_name_unique", "network", name)
