"""What hosts see as they said it before: the cheapest report, of all that a host has at once.

Most of what a large cloud says is this. It costs one statement for a host's servers and one for its
networks, whatever their number. A server of which control has missed something is told its document
again, to which its host answers with a whole report; so nothing rests on a message that was lost.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import structlog
from django.db import connection, transaction
from django.utils import timezone

from cloud import steps
from cloud.broker import host_of
from cloud.patience import backoff
from vms import dispatch
from vms.errands import open_actions
from vms.intent import set_status
from vms.models import VM
from vms.spec import SeenVm, UnchangedReport

log = structlog.get_logger(__name__)


def unchanged_report(report: UnchangedReport, sender: str) -> None:
    """Note that what the host said of its servers and networks still holds."""
    now = timezone.now()
    told = {seen.vm_id: seen for seen in report.vms}
    missed = told.keys() - _confirmed(_VMS, _columns(report), sender, now)
    if missed:
        _catch_up([told[vm_id] for vm_id in missed], report.host_uuid, sender, now)
    if report.networks:
        _confirmed(_NETWORKS, _columns(report), sender, now)


def _columns(report: UnchangedReport) -> dict[str, Any]:
    return {
        "host_uuid": report.host_uuid,
        "ids": [seen.vm_id for seen in report.vms],
        "uuids": [seen.uuid for seen in report.vms],
        "seqs": [seen.seq for seen in report.vms],
        "networks": [seen.network_id for seen in report.networks],
        "generations": [seen.generation for seen in report.networks],
    }


def _confirmed(query: str, columns: dict[str, Any], sender: str, now: datetime) -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute(query, {**columns, "host": host_of(sender), "now": now})
        return {row[0] for row in cursor.fetchall()}


def _catch_up(missed: Collection[SeenVm], host_uuid: str, sender: str, now: datetime) -> None:
    """Ask about servers of which control does not know what their host told last.

    Those whose host was silent meanwhile just get their status back. Rows that another report
    holds are left to it.
    """
    told = {seen.vm_id: seen for seen in missed}
    own = VM.objects.for_spec().filter(
        pk__in=told,
        host__uuid=host_uuid,
        host__name=host_of(sender),
        host__revoked_at=None,
        # After a restore, nobody is told of a server before it is known how it is.
        host__unverified_since=None,
        held_back="",
    )
    asked = []
    with transaction.atomic():
        free = own.order_by("pk").select_for_update(of=("self",), skip_locked=True)
        for vm in free:
            seen = told[vm.pk]
            if seen.uuid != str(vm.uuid) or seen.seq < vm.observed_seq:
                continue  # of another inventory, or overtaken by a report
            fields = ["status"]
            set_status(vm)
            if seen.seq == vm.observed_seq:
                vm.observed_at = now
                fields.append("observed_at")
            if vm.next_dispatch_at <= now and _wants_more(vm, seen):
                vm.attempts += 1
                vm.next_dispatch_at = now + backoff(vm.attempts)
                fields += ["attempts", "next_dispatch_at"]
                dispatch.on_commit(vm)
                asked.append(vm)
            vm.save(update_fields=fields)
        steps.sent_again("server", [vm.pk for vm in asked if not vm.converged])
    if asked:
        log.info("asked for whole reports", sender=sender, vms=[vm.pk for vm in asked])


def _wants_more(vm: VM, seen: SeenVm) -> bool:
    """Whether a report was missed, or an Action waits for one to end it."""
    return seen.seq > vm.observed_seq or open_actions(vm).exists()


# Rows that somebody holds are left to the next report, so nobody waits; in the order of their
# numbers, in which all lock them. Unknown is what a silent host's servers are, unless the host says
# so itself. A server with an open Action takes the long way: its end may depend on other rows.
_VMS = """
    WITH own AS (
        SELECT vm.id FROM vms_vm AS vm
        JOIN unnest(%(ids)s::bigint[], %(uuids)s::uuid[], %(seqs)s::bigint[])
            AS told(id, uuid, seq) ON told.id = vm.id
        JOIN cloud_host AS host ON host.id = vm.host_id
        WHERE host.uuid = %(host_uuid)s AND host.name = %(host)s
            AND host.revoked_at IS NULL AND vm.uuid = told.uuid AND vm.observed_seq = told.seq
            AND (vm.status <> 'unknown' OR vm.observed_power = 'unknown')
            AND vm.id NOT IN (
                SELECT resource.resource_id FROM cloud_action AS action
                JOIN cloud_actionresource AS resource ON resource.action_id = action.id
                WHERE action.status = 'running' AND resource.type = 'server'
            )
        ORDER BY vm.id FOR NO KEY UPDATE OF vm SKIP LOCKED
    )
    UPDATE vms_vm SET observed_at = %(now)s FROM own WHERE vms_vm.id = own.id RETURNING vms_vm.id
"""
_NETWORKS = """
    WITH own AS (
        SELECT replica.id, replica.network_id FROM networks_replica AS replica
        JOIN unnest(%(networks)s::bigint[], %(generations)s::bigint[])
            AS told(network_id, generation) ON told.network_id = replica.network_id
        JOIN cloud_host AS host ON host.id = replica.host_id
        WHERE host.uuid = %(host_uuid)s AND host.name = %(host)s
            AND host.revoked_at IS NULL
            AND replica.observed_generation = told.generation AND replica.converged
        ORDER BY replica.id FOR NO KEY UPDATE OF replica SKIP LOCKED
    )
    UPDATE networks_replica SET observed_at = %(now)s FROM own
    WHERE networks_replica.id = own.id RETURNING own.network_id
"""
