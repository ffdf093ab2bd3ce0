"""The inventory's side of the comparison: what a host should have, and what is known of the rest.

Reads only. `vms.drift.wanted` says what follows from it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from msgspec import structs

from cloud.models import AuditEntry, Host
from networks.models import PrivateNetwork
from vms import dispatch
from vms.drift.differences import Difference, Direction
from vms.drift.spec import HostInventory
from vms.drift.treatment import Knowledge, lost_disks
from vms.drift.wanted import NetworkState, ServerState, Wanted, wanted
from vms.models import VM
from vms.private.documents import digest_of, documents_of


def wanted_on(host: Host, seen: HostInventory, now: datetime) -> Wanted:
    """What the host that has `seen` must have."""
    return wanted(_servers(host), _networks(host, now), seen, user_mode=host.in_user_mode)


def knowledge(host: Host, seen: HostInventory, found: list[Difference]) -> Knowledge:
    """What decides about these differences; costs nothing where there are none."""
    extra = [one.thing for one in found if one.direction is Direction.EXTRA]
    servers = {one.server for one in extra if one.server is not None}
    networks = {one.network for one in extra if one.network is not None}
    rows = VM.objects.filter(pk__in=servers).values_list("pk", "uuid", "host") if servers else ()
    return Knowledge(
        here={pk: str(uuid) for pk, uuid, at in rows if at == host.pk},
        elsewhere={pk: str(uuid) for pk, uuid, at in rows if at != host.pk},
        ended=ended_servers(servers),
        networks=frozenset(
            host.replicas.filter(network__in=networks, wanted=True).values_list(
                "network", flat=True
            )
            if networks
            else ()
        ),
        ended_networks=_ended_networks(networks),
        held={one.vm_id: one for one in seen.servers},
        held_networks={one.network_id: one for one in seen.networks},
        lost_disks=lost_disks(found),
    )


def _servers(host: Host) -> list[ServerState]:
    return [
        ServerState(dispatch.spec_of(vm), vm.applied_generation, vm.observed_seq, vm.deleting)
        for vm in VM.objects.for_spec().filter(host=host)
    ]


def _networks(host: Host, now: datetime) -> list[NetworkState]:
    """A document that would be another one by now is on its way."""
    states = []
    for replica in host.replicas.filter(wanted=True).select_related("network"):
        spec = documents_of(replica.network, now).get(host.pk) if replica.converged else None
        carried_out = replica.observed_generation == replica.generation
        told = spec is not None and carried_out and digest_of(spec) == replica.digest
        numbered = structs.replace(spec, generation=replica.generation) if spec and told else None
        states.append(NetworkState(replica.network_id, numbered))
    return states


def ended_servers(servers: Collection[int]) -> frozenset[tuple[int, str]]:
    """Number and UUID of those that are known to be deleted.

    The trail is the memory of what was deleted; nobody can write into it what did not happen.
    """
    if not servers:
        return frozenset()
    gone = AuditEntry.objects.filter(
        verb="server.gone", resource_type="server", resource_id__in=servers
    )
    return frozenset(gone.values_list("resource_id", "before__uuid"))


def _ended_networks(networks: Collection[int]) -> frozenset[int]:
    if not networks:
        return frozenset()
    ended = AuditEntry.objects.filter(
        verb="network.delete", resource_type="network", resource_id__in=networks
    )
    there = PrivateNetwork.objects.filter(pk__in=networks).values_list("pk", flat=True)
    return frozenset(ended.values_list("resource_id", flat=True)) - frozenset(there)
