"""Pools as operators change them, by all doors: servers are told what their addresses come with.

Resolvers and the gateway of a pool are part of what a host is told of a server. It ignores a
document that is not newer, so the servers get their next generation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.db import transaction
from django.db.models import Q

from networks import pools
from networks.models import Network
from networks.pools import Pool
from vms.errands import lock_vm
from vms.firewalls.membership import lock_servers
from vms.intent import tell_anew
from vms.models import Nic


def ensure_pool(pool: Pool) -> Network:
    """Like `networks.pools.ensure_pool`; servers with addresses of the pool are told."""
    known = Network.objects.filter(name=pool.name).first()
    return _telling(known, lambda: pools.ensure_pool(pool))


def describe_pool(
    network: Network, *, name: str, excluded: Iterable[str], dns: Iterable[str]
) -> None:
    """Like `networks.pools.describe_pool`; servers with addresses of the pool are told."""

    def change() -> Network:
        pools.describe_pool(network, name=name, excluded=excluded, dns=dns)
        return network

    _telling(Network.objects.filter(pk=network.pk).first(), change)


def _telling(known: Network | None, change: Callable[[], Network]) -> Network:
    if known is None:
        return change()
    with transaction.atomic():
        # Servers are locked before pools: see `cloud.locks`.
        servers = lock_servers(_with_addresses_of(known))
        network = change()
        if (known.dns, known.gateway) == (network.dns, network.gateway):
            return network
        for vm in servers:
            tell_anew(lock_vm(vm.pk))
    # Those that got an address of the pool while it was changed.
    with transaction.atomic():
        for vm in lock_servers(_with_addresses_of(network) - {vm.pk for vm in servers}):
            tell_anew(lock_vm(vm.pk))
    return network


def _with_addresses_of(pool: Network) -> set[int]:
    """The servers that have some, or a place in its DHCP."""
    own = Q(ipv4__address__network=pool) | Q(ipv6__address__network=pool) | Q(dhcp_network=pool)
    return set(Nic.objects.filter(own).values_list("vm", flat=True))
