"""What this host really has, for control to compare with its inventory.

The documents come from the disk, everything else is asked of the kernel and of processes. Whatever
cannot be looked at is named as unseen, so that nothing follows from it.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import structlog
from msgspec import structs

from cloud import files
from cloud.errors import CumuletError
from networks.host import census as network_census
from networks.host import nics, plan
from networks.spec import NetworkSpec
from vms.drift import claims, things
from vms.drift.spec import (
    MOST_HELD,
    MOST_OF_A_KIND,
    HeldNetwork,
    HeldServer,
    HostInventory,
    Kind,
    Thing,
)
from vms.host import documents, netstore, qemu, store, user_census
from vms.host.host import Host
from vms.host.leftovers import wanted_taps
from vms.host.paths import number_of, server_of
from vms.spec import VmSpec

log = structlog.get_logger(__name__)

_IN_KERNEL = (
    *(Kind.TAP, Kind.RULES, Kind.ADDRESS, Kind.BRIDGE, Kind.TUNNEL, Kind.FDB, Kind.NEIGHBOUR),
)
_IN_USER_MODE = (Kind.SWITCH, Kind.OUTLET, Kind.PORT)
# Longer names are cut: they are some stranger's, and nothing of ours.
_CHARACTERS = 200
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z"

Look = Callable[[Host], Iterable[Thing]]


def look(host: Host, *, deep: bool = False) -> HostInventory:
    """All of it, at one time. `deep`: with what is there and not whole.

    Whoever has just converged every server has seen that already.
    """
    seq = _next_seq(host)
    servers, networks, damaged = _held(host)
    uuids = {one.vm_id: one.uuid for one in servers}
    found: list[Thing] = [*damaged]
    unseen: list[Kind] = []
    for kinds, look_at in _looks(host):
        try:
            found += look_at(host)
        except (CumuletError, OSError) as error:
            log.warning("not looked at", kinds=[str(kind) for kind in kinds], reason=str(error))
            unseen += kinds
    found = _with_guests_that_are_off_excused(found)
    if deep:
        found = _with_flaws(host, found)
    told = [_attributed(host, _fit(thing), uuids) for thing in found if thing.kind not in unseen]
    kept, cut = _bounded(told)
    return HostInventory(
        host_uuid=host.uuid,
        boot_id=host.boot_id,
        seq=seq,
        things=kept,
        servers=tuple(servers[:MOST_HELD]),
        networks=tuple(networks[:MOST_HELD]),
        unseen=tuple(unseen),
        cut=cut,
    )


def _looks(host: Host) -> list[tuple[tuple[Kind, ...], Look]]:
    connections = (
        (_IN_KERNEL, _network) if host.routes_networks else (_IN_USER_MODE, user_census.look)
    )
    return [
        ((Kind.SERVER, Kind.DISK, Kind.DIRECTORY), _on_disk),
        ((Kind.PROCESS,), _processes),
        connections,
    ]


def _held(host: Host) -> tuple[list[HeldServer], list[HeldNetwork], list[Thing]]:
    """The documents, and those that cannot be read."""
    servers, networks, damaged = [], [], []
    for vm_id in store.vm_ids(host):
        try:
            wanted = store.wanted(host.paths.vm(vm_id))
        except documents.DamagedStore as error:
            damaged.append(Thing(Kind.SERVER, str(vm_id), server=vm_id, flaw=error.message))
            continue
        if wanted and wanted.vm_id == vm_id:
            here = isinstance(wanted, VmSpec)
            held = HeldServer(vm_id, wanted.uuid, wanted.generation, here)
            servers.append(_with_claims(held, wanted) if isinstance(wanted, VmSpec) else held)
    for network_id in netstore.network_ids(host.paths):
        told = None
        with suppress(documents.DamagedStore):  # whoever makes the network says so
            told = netstore.wanted(host.paths, network_id)
        if told:
            here = isinstance(told, NetworkSpec)
            networks.append(HeldNetwork(network_id, told.generation, here))
    networks.sort(key=lambda one: not one.wanted)  # those that are here are not left out
    return servers, networks, damaged


def gone_networks(host: Host) -> Iterator[HeldNetwork]:
    """What the host was told last of networks that are gone, the last first."""
    known = {*netstore.network_ids(host.paths)}
    for fence in netstore.fences(host.paths):
        if fence.network_id not in known:
            yield HeldNetwork(fence.network_id, fence.generation, wanted=False)


def _with_claims(held: HeldServer, spec: VmSpec) -> HeldServer:
    """With all that must not be anybody else's, and what was asked for last."""
    return structs.replace(
        held,
        power=spec.power,
        reset_serial=spec.reset_serial,
        reboot_serial=spec.reboot_serial,
        addresses=claims.addresses_of(spec),
        ports=claims.ports_of(spec),
        private=claims.private_of(spec),
    )


def _on_disk(host: Host) -> Iterator[Thing]:
    for entry in sorted(host.paths.vms.iterdir()):
        vm_id = number_of(entry.name)
        if vm_id is None:
            yield Thing(Kind.DIRECTORY, entry.name)
            continue
        paths = host.paths.vm(vm_id)
        try:
            wanted = store.wanted(paths)
        except documents.DamagedStore:
            continue
        if wanted:
            yield things.server(vm_id, wanted.uuid)
        else:
            yield Thing(Kind.DIRECTORY, entry.name, server=vm_id)
        for disk in sorted(entry.glob("disk-*")):
            yield Thing(Kind.DISK, f"{vm_id}/{disk.name.removesuffix('.qcow2')}", server=vm_id)


def _processes(host: Host) -> Iterator[Thing]:
    """Twice if there are two of a server."""
    counted: Counter[str] = Counter()
    for one in qemu.running(host.paths):
        counted[one.uuid] += 1
        thing = things.process(one.vm_id, one.uuid)
        again = counted[one.uuid] > 1
        yield structs.replace(thing, name=f"{one.uuid} again, as {one.pid}") if again else thing


def _network(host: Host) -> Iterator[Thing]:
    seen = network_census.look(host.surroundings)
    others = {name for name, link in seen.taps.items() if link.others}
    for name, link in seen.taps.items():
        if name not in others:
            flaw = "" if link.open else things.UNHELD
            yield Thing(Kind.TAP, name, server=server_of(name), marked=link.ours, flaw=flaw)
    for name in seen.ruled - others:
        yield Thing(Kind.RULES, name, server=server_of(name))
    for network, interface in seen.routes:
        yield things.route(server_of(interface), network, interface)
    for address, ours in seen.answers.items():
        guest = seen.guest_of(address)
        thing = things.answer(server_of(guest) if guest else None, address)
        yield structs.replace(thing, marked=ours)
    for kind, named in ((Kind.BRIDGE, seen.bridges), (Kind.TUNNEL, seen.tunnels)):
        for name, link in named.items():
            if not link.others:
                yield Thing(kind, name, network=plan.network_of(name), marked=link.ours)
    for bridge, forwarding in seen.entries.items():
        network_id = plan.network_of(bridge)
        if network_id:
            yield from things.entries(network_id, plan.names(network_id), forwarding)


def _with_guests_that_are_off_excused(found: list[Thing]) -> list[Thing]:
    """Nobody has to hold the interfaces of a server without a QEMU, as one that just starts."""
    running = {one.server for one in found if one.kind is Kind.PROCESS}
    return [
        structs.replace(one, flaw="") if one.kind is Kind.TAP and one.server not in running else one
        for one in found
    ]


def _with_flaws(host: Host, found: list[Thing]) -> list[Thing]:
    if not host.routes_networks:
        return found
    try:
        flaws = nics.flaws(wanted_taps(host), host.surroundings)
    except CumuletError as error:
        log.warning("rules not looked into", reason=error.message)
        return found
    return [
        structs.replace(one, flaw=flaws.get(one.name, "")) if one.kind is Kind.RULES else one
        for one in found
    ]


def _attributed(host: Host, thing: Thing, uuids: dict[int, str]) -> Thing:
    """With the UUID of the server whose document is here, and whether it was told to be gone."""
    uuid = thing.uuid or uuids.get(thing.server or 0)
    if uuid is None:
        return thing
    gone = host.paths.tombstone(uuid).exists()
    return structs.replace(thing, uuid=uuid, tombstoned=gone)


def _bounded(found: list[Thing]) -> tuple[tuple[Thing, ...], dict[Kind, int]]:
    kept: list[Thing] = []
    counted: Counter[Kind] = Counter()
    for thing in sorted(set(found), key=things.key):
        counted[thing.kind] += 1
        if counted[thing.kind] <= MOST_OF_A_KIND:
            kept.append(thing)
    cut = {kind: count - MOST_OF_A_KIND for kind, count in counted.items()}
    return tuple(kept), {kind: count for kind, count in cut.items() if count > 0}


def _next_seq(host: Host) -> int:
    """The clock, but never less than before, also if it was set back."""
    last = host.paths.inventory_seq
    with files.locked(host.paths.locks / "inventory"):
        before = 0
        with suppress(FileNotFoundError, ValueError):  # one that is damaged leaves the clock
            before = int(last.read_bytes())
        seq = max(before + 1, int(time.time() * 1000))
        files.write(last, b"%d" % seq)
    return seq


def _fit(thing: Thing) -> Thing:
    """As the wire contract has it, whatever names somebody gave to files, links and programs."""
    return structs.replace(
        thing,
        name=_printable(thing.name),
        flaw=_printable(thing.flaw),
        server=thing.server if _is_row_id(thing.server) else None,
        network=thing.network if _is_row_id(thing.network) else None,
        uuid=thing.uuid if thing.uuid and re.match(_UUID, thing.uuid) else None,
    )


def _printable(text: str) -> str:
    shown = "".join(char if " " <= char <= "~" else ascii(char)[1:-1] for char in text)
    return shown if len(shown) <= _CHARACTERS else f"{shown[: _CHARACTERS - 3]}..."


def _is_row_id(number: int | None) -> bool:
    return number is not None and 1 <= number < 2**53
