"""Hear what a host holds: set its servers right after a restore, and note what nobody knows.

Called with every `HostInventory` of a host, in its transaction. See `vms.restored`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from django.conf import settings
from msgspec import to_builtins

from cloud.actor import SWEEP, acting
from cloud.audit import changing
from cloud.celery import hint
from cloud.models import Host
from cloud.wire import encode
from networks.allocation import Reservation, reserve
from networks.models import PrivateNetwork, Replica
from vms.dispatch import spec_of
from vms.drift.claims import Claims, claims_in, claims_of
from vms.drift.inventory import ended_servers
from vms.drift.spec import MOST_ASKED, HeldServer, HostInventory, InventoryRequest, Kind
from vms.intent import set_status, want
from vms.lifecycle import HeldBack
from vms.models import VM, Holding
from vms.restored.belief import Claim, believed, drop
from vms.spec import Power, PowerGoal

log = structlog.get_logger(__name__)

# A host that does not answer is asked at every sweep of the first minute, and once in each further.
_EAGER: Final = timedelta(minutes=1)

GONE: Final = "server_not_on_host"
DIFFERS: Final = "server_differs_on_host"


def ask_unverified(now: datetime) -> int:
    """Ask hosts that speak what they hold; answers how many were asked."""
    speaking = Host.objects.speaking(now, settings.HOST_SILENT_SECONDS).unverified()
    return sum(_ask(host) for host in speaking if _is_time(host, now))


def hear(host: Host, report: HostInventory, now: datetime) -> None:
    """Take what the host says that it has; call with its survey locked."""
    if Kind.SERVER in report.unseen:
        return
    held = {one.uuid: one for one in report.servers if one.wanted}
    with acting(SWEEP):
        asked = host.unverified_since is not None
        restored = asked and _verify(host.pk, report, held, now)
        _note(host, held, now, restored=restored)


def _verify(pk: int, report: HostInventory, held: dict[str, HeldServer], now: datetime) -> bool:
    """If it answers the open question, the inventory knows from now on what the host has."""
    host = Host.objects.select_for_update(no_key=True).get(pk=pk)
    if host.unverified_since is None or report.answers != _question(host):
        return False
    _verify_servers(host, report, held)
    _verify_networks(host, report, now)
    host.unverified_since = None
    host.save(update_fields=["unverified_since"])
    log.info("host verified after a restore", host=host.name, servers=len(held))
    return True


def _is_time(host: Host, now: datetime) -> bool:
    assert host.unverified_since is not None
    passed = now - host.unverified_since
    return passed < _EAGER or passed % _EAGER < timedelta(seconds=settings.SWEEP_SECONDS)


def _ask(host: Host) -> bool:
    held_back = VM.objects.filter(host=host).exclude(held_back="").order_by("pk")
    request = InventoryRequest(
        host_uuid=str(host.uuid),
        servers=tuple(str(uuid) for uuid in held_back.values_list("uuid", flat=True)[:MOST_ASKED]),
        question=_question(host),
    )
    return hint(host.queue, "hosts.look", encode(request), summary=f"host {host}: look")


def _question(host: Host) -> str:
    """An answer to a question of before the restore, or of an earlier one, is none to this."""
    assert host.unverified_since is not None
    return host.unverified_since.isoformat()


def _verify_servers(host: Host, report: HostInventory, held: dict[str, HeldServer]) -> None:
    waiting = VM.objects.for_spec().filter(host=host, held_back=HeldBack.UNVERIFIED)
    running = {one.uuid for one in report.things if one.kind is Kind.PROCESS}
    blind = Kind.PROCESS in report.unseen
    damaged = {one.server for one in report.things if one.kind is Kind.SERVER and one.flaw}
    for vm in waiting.select_for_update(of=("self",)).order_by("pk"):
        theirs = held.get(str(vm.uuid))
        with changing(vm, "verify", always=True):
            if theirs is None and vm.pk not in damaged:
                _is_gone(vm, removed=str(vm.uuid) in report.removed)
                continue
            if not blind:
                vm.observed_power = Power.RUNNING if str(vm.uuid) in running else Power.OFF
            # Of one that is off its report will say whether it was ever finished.
            vm.provisioned = vm.provisioned or str(vm.uuid) in running
            if theirs is None:
                _differs(vm, "its document there cannot be read: see the agent's log")
            else:
                _is_there(vm, theirs)


def _is_there(vm: VM, held: HeldServer) -> None:
    """The host's document is newer than the backup, so what it counts and wants goes on."""
    vm.generation = max(vm.generation, held.generation)
    vm.reset_serial = max(vm.reset_serial, held.reset_serial)
    vm.reboot_serial = max(vm.reboot_serial, held.reboot_serial)
    if held.power:
        vm.goal = held.power
    theirs, ours = claims_in(held), claims_of(spec_of(vm))
    if theirs == ours:
        vm.held_back = ""
        want(vm, PowerGoal(vm.goal))
        return
    _differs(
        vm,
        f"the host has it with {theirs}, the inventory with {ours}: it goes on as it is there until"
        " it is asked for something, which gives it what the inventory says",
    )


def _differs(vm: VM, how: str) -> None:
    _hold_back(vm, HeldBack.DIFFERS, DIFFERS, f"after the restore of the inventory: {how}")


def _is_gone(vm: VM, *, removed: bool) -> None:
    why = (
        "it was deleted after the backup was made"
        if removed
        else "it was never finished, or its disk is lost"
    )
    _hold_back(
        vm,
        HeldBack.GONE,
        GONE,
        f"after the restore of the inventory, host {vm.host} has nothing of server {vm.name}:"
        f" {why}. It is not made anew with an empty disk: delete it",
    )


def _hold_back(vm: VM, reason: HeldBack, code: str, message: str) -> None:
    vm.held_back = reason
    vm.failure_code, vm.failure_message = code, message
    set_status(vm)
    vm.save()
    log.warning("server held back", vm=vm.pk, code=code, reason=message)


def _note(host: Host, held: dict[str, HeldServer], now: datetime, *, restored: bool) -> None:
    """Keep what servers hold that the inventory does not know, or knows otherwise, from others."""
    noted = {str(one.uuid): one for one in Holding.objects.filter(host=host)}
    rows = VM.objects.filter(uuid__in=[UUID(uuid) for uuid in held])
    known = {str(uuid): why for uuid, why in rows.values_list("uuid", "held_back")}
    # Of servers that were never held back nothing is noted: what differs is on its way.
    doubted = [uuid for uuid, why in known.items() if uuid in noted or why == HeldBack.DIFFERS]
    differing = _differing(doubted, held)
    ended = _ended(held[uuid] for uuid in held.keys() - known.keys())
    told = differing.keys() | held.keys() - known.keys() - ended
    claims = believed(host, [held[uuid] for uuid in told], noted, restored=restored)
    for claim in claims:
        uuid = claim.server.uuid
        _keep(host, claim, noted.pop(uuid, None), differing.get(uuid), now)
    for row in noted.values():
        drop(row, now)


def _differing(uuids: Collection[str], held: dict[str, HeldServer]) -> dict[str, Claims]:
    """What the inventory has of those of which the host holds something else."""
    if not uuids:
        return {}
    vms = VM.objects.for_spec().filter(uuid__in=[UUID(uuid) for uuid in uuids])
    ours = {str(vm.uuid): claims_of(spec_of(vm)) for vm in vms}
    return {uuid: claims for uuid, claims in ours.items() if claims != claims_in(held[uuid])}


def _ended(unknown: Iterable[HeldServer]) -> set[str]:
    """Those that ended while the report about them was on its way."""
    uuids = {one.vm_id: one.uuid for one in unknown}
    return {uuid for number, uuid in ended_servers(uuids) if uuids[number] == uuid}


def _keep(
    host: Host, claim: Claim, row: Holding | None, ours: Claims | None, now: datetime
) -> None:
    """`ours`: what the inventory has of it, None if it does not know it."""
    held = claim.server
    values = {
        "vm_id": held.vm_id,
        "generation": held.generation,
        "known": ours is not None,
        "addresses": list(held.addresses),
        "ports": list(held.ports),
        "private": [to_builtins(one) for one in held.private],
    }
    if row is None or any(getattr(row, name) != value for name, value in values.items()):
        row, new = Holding.objects.update_or_create(host=host, uuid=held.uuid, defaults=values)
        if new:
            log.warning(
                "server unknown to the inventory", host=host.name, vm=held.vm_id, uuid=held.uuid
            )
    # Also what is noted for long: it may have been another one's until now.
    reserve(
        Reservation(row.pk, held.vm_id, host.location_id),
        claim.without(ours.addresses if ours else ()),
        now,
    )


def _verify_networks(host: Host, report: HostInventory, now: datetime) -> None:
    """Count on from what the host knows. That it is in use by servers nobody knows is seen when it
    would be taken away (`vms.private.replication`).
    """
    fence = int(now.timestamp() * 1000)
    numbers = {one.network_id: one.generation for one in report.networks}
    for network in PrivateNetwork.objects.filter(pk__in=numbers).order_by("pk"):
        replica, _ = Replica.objects.get_or_create(
            network=network, host=host, defaults={"wanted": False}
        )
        replica.generation = max(replica.generation, numbers[network.pk], fence)
        replica.digest, replica.converged = "", False
        replica.next_dispatch_at = now
        replica.save()
