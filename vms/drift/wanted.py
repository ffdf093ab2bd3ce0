"""The documents of a host → what must be found there. Pure.

Only what was carried out once is wanted here: a document on its way, a server that is being
deleted, or one that its host never could make is work under way and no drift. Whose that is, is
`unsettled`, and nothing of theirs is judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from networks.host import addresses, plan
from networks.spec import NetworkSpec
from vms.drift import things
from vms.drift.spec import HeldNetwork, HeldServer, HostInventory, Kind, Thing
from vms.drift.things import Key
from vms.host.paths import tap_name
from vms.spec import PowerGoal, VmSpec


@dataclass(frozen=True)
class ServerState:
    """A server of the host as the inventory has it. `observed_seq`: of its host's last report."""

    spec: VmSpec
    applied_generation: int
    observed_seq: int
    deleting: bool = False


@dataclass(frozen=True)
class NetworkState:
    """A private network that the host was told of. `spec`: if it said that it has carried that out,
    and has to be told nothing else since.
    """

    network_id: int
    spec: NetworkSpec | None


@dataclass(frozen=True)
class Wanted:
    """`things` must be there; nothing is said about what the others have."""

    things: Mapping[Key, Thing]
    unsettled_servers: frozenset[int] = frozenset()
    unsettled_networks: frozenset[int] = frozenset()
    # Servers of which the host holds a newer document than the inventory has.
    ahead: Mapping[int, int] = field(default_factory=dict)


def wanted(
    servers: Iterable[ServerState],
    networks: Iterable[NetworkState],
    seen: HostInventory,
    *,
    user_mode: bool,
) -> Wanted:
    """What must be on the host that says it has `seen`."""
    held = {one.vm_id: one for one in seen.servers}
    held_networks = {one.network_id: one for one in seen.networks}
    states, told = list(servers), list(networks)
    settled = {
        one.spec.vm_id: one.spec for one in states if _settled(one, held.get(one.spec.vm_id), seen)
    }
    judged = {
        one.network_id: one.spec
        for one in told
        if one.spec and _holds(held_networks.get(one.network_id), one.spec.generation)
    }
    found = [thing for spec in settled.values() for thing in of_server(spec, user_mode=user_mode)]
    running = [spec for spec in settled.values() if spec.power is PowerGoal.RUNNING]
    for network in judged.values():
        if user_mode:
            found.append(things.switch(network.network_id))
        else:
            found += of_network(network, _members(network, running))
    return Wanted(
        things={things.key(thing): thing for thing in found},
        unsettled_servers=frozenset(
            {one.spec.vm_id for one in states} | {i for i, one in held.items() if not one.wanted}
        )
        - settled.keys(),
        unsettled_networks=frozenset(
            {one.network_id for one in told}
            | {i for i, one in held_networks.items() if not one.wanted}
        )
        - judged.keys(),
        ahead={
            one.spec.vm_id: held[one.spec.vm_id].generation
            for one in states
            if _is_ahead(one, held.get(one.spec.vm_id))
        },
    )


def of_server(spec: VmSpec, *, user_mode: bool) -> Iterator[Thing]:
    """What a server consists of on its host; links only where it is to run."""
    vm_id = spec.vm_id
    yield things.server(vm_id, spec.uuid)
    yield from (things.disk(vm_id, disk.index) for disk in spec.disks)
    if spec.power is not PowerGoal.RUNNING:
        return
    yield things.process(vm_id, spec.uuid)
    for nic in spec.nics:
        tap = tap_name(vm_id, nic.index)
        if user_mode:
            if nic.mode == "user":
                yield things.outlet(vm_id, nic.index)
                for one in nic.forwards:
                    yield things.port(vm_id, one.protocol, one.port, one.guest_port)
            continue
        yield Thing(Kind.TAP, tap, server=vm_id)
        yield Thing(Kind.RULES, tap, server=vm_id)
        if nic.mode == "public_routed":
            for network in addresses.led_to(nic):
                yield things.route(vm_id, network, tap)
                yield things.answer(vm_id, addresses.spoken_for(network))


def of_network(spec: NetworkSpec, members: Iterable[tuple[str, str]]) -> Iterator[Thing]:
    """What a private network consists of on a host of the mesh.

    `members`: MAC and TAP of those here that run; the others have no place in the bridge.
    """
    network_id, name = spec.network_id, plan.names(spec.network_id)
    yield Thing(Kind.BRIDGE, name.bridge, network=network_id)
    yield Thing(Kind.TUNNEL, name.tunnel, network=network_id)
    yield from things.entries(network_id, name, plan.wanted(spec, members))


def _settled(state: ServerState, held: HeldServer | None, seen: HostInventory) -> bool:
    """Whether the host once carried out just what the inventory says, and was not told else."""
    spec = state.spec
    if state.deleting or state.applied_generation != spec.generation:
        return False
    if held is None or held.uuid != spec.uuid:
        # A host that reported on it after it had begun to look may have been told meanwhile.
        return state.observed_seq < seen.seq
    return held.wanted and held.generation == spec.generation


def _is_ahead(state: ServerState, held: HeldServer | None) -> bool:
    return (
        held is not None
        and held.wanted
        and held.uuid == state.spec.uuid
        and held.generation > state.spec.generation
    )


def _holds(held: HeldNetwork | None, generation: int) -> bool:
    """A host that has forgotten the network is one that lacks all of it."""
    return held is None or (held.wanted and held.generation == generation)


def _members(network: NetworkSpec, running: Iterable[VmSpec]) -> list[tuple[str, str]]:
    return [
        (nic.mac, tap_name(spec.vm_id, nic.index))
        for spec in running
        for nic in spec.nics
        if nic.network_id == network.network_id
    ]
