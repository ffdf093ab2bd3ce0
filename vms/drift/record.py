"""Keep the differences of a host as rows, each from when it was first seen.

A host that is silent changes nothing here: its rows stay as they were seen last. Reports come
twice, late or out of order; one that is not newer than the last is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import transaction
from django.utils import timezone

from cloud.broker import broker_user
from cloud.drift import Drift, Survey
from cloud.models import Host
from vms.drift.differences import Difference, differences
from vms.drift.inventory import knowledge, wanted_on
from vms.drift.spec import HostInventory
from vms.drift.treatment import Knowledge, treat
from vms.restored.verify import hear

log = structlog.get_logger(__name__)

# Rows of a host: whoever has more has one trouble, not so many.
MOST_ROWS = 1000
# How long a difference is remembered after it vanished.
KEEP_CLOSED = timedelta(days=7)
_JUDGED = ("detail", "uuid", "generation", "server_id", "network_id", "verb", "reason")


def host_inventory(report: HostInventory, sender: str) -> None:
    """Compare what a host has with what it should have, and write down what differs."""
    now = timezone.now()
    with transaction.atomic():
        # Locked, so that nothing is noted of a host that is cut off meanwhile.
        hosts = Host.objects.select_for_update(no_key=True)
        host = hosts.filter(uuid=report.host_uuid, revoked_at=None).first()
        if host is None:  # it has not joined yet, or was cut off: its next one may count
            log.info("inventory of no known host dropped", host=report.host_uuid, sender=sender)
            return
        if sender != broker_user(host.name):
            log.error("inventory of another host dropped", host=host.name, sender=sender)
            return
        survey, _ = Survey.objects.select_for_update().get_or_create(host=host)
        # A host whose clock was set back goes on from its last number until it starts anew.
        if survey.boot_id == report.boot_id and report.seq <= survey.seq:
            log.info("inventory dropped", host=host.name, seq=report.seq)
            return
        hear(host, report, now)
        found = differences(wanted_on(host, report, now), report)
        kept = found[:MOST_ROWS]
        _write(host, kept, knowledge(host, report, kept), report, now)
        survey.seq, survey.boot_id, survey.at = report.seq, report.boot_id, now
        survey.unseen = [str(kind) for kind in report.unseen]
        survey.cut = {str(kind): count for kind, count in report.cut.items()}
        survey.left_out = len(found) - len(kept)
        survey.save()


def forget_closed(now: datetime) -> int:
    """Rows of differences that vanished long ago; what an operator marked as known stays."""
    old = Drift.objects.filter(closed_at__lt=now - KEEP_CLOSED, kept_at=None)
    deleted, _ = old.delete()
    return deleted


def _write(
    host: Host,
    found: Collection[Difference],
    known: Knowledge,
    report: HostInventory,
    now: datetime,
) -> None:
    rows = {(row.direction, row.kind, row.name): row for row in host.drift.select_for_update()}
    new, changed, seen = [], [], []
    for difference in found:
        row = rows.pop(difference.key, None)
        judged = _judged(difference, known)
        if row is None:
            new.append(_row(host, difference, judged, now))
            continue
        if row.closed_at or any(getattr(row, name) != value for name, value in judged.items()):
            row.first_seen = now if row.closed_at else row.first_seen
            row.closed_at = None
            vars(row).update(judged)
            changed.append(row)
        seen.append(row.pk)
    Drift.objects.bulk_create(new)
    Drift.objects.bulk_update(changed, ("first_seen", "closed_at", *_JUDGED), batch_size=200)
    Drift.objects.filter(pk__in=seen).update(last_seen=now)
    # Of these kinds it is not known whether they vanished.
    blind = {*report.unseen, *report.cut}
    vanished = [row.pk for row in rows.values() if not row.closed_at and row.kind not in blind]
    Drift.objects.filter(pk__in=vanished).update(closed_at=now)
    _bound_memory(rows.values())
    if new:
        log.warning("drift", host=host.name, count=len(new), first=[str(row) for row in new[:5]])


def _bound_memory(rows: Iterable[Drift]) -> None:
    """A host that tells of ever other things is not to fill the database."""
    closed = [row for row in rows if row.closed_at and not row.kept_at]
    if len(closed) > MOST_ROWS:
        oldest = sorted(closed, key=lambda row: row.closed_at or row.last_seen)
        Drift.objects.filter(pk__in=[row.pk for row in oldest[:-MOST_ROWS]]).delete()


def _judged(difference: Difference, known: Knowledge) -> dict[str, object]:
    thing, treatment = difference.thing, treat(difference, known)
    held = known.held.get(thing.server or 0)
    held_network = known.held_networks.get(thing.network or 0)
    uuid = thing.uuid or (held.uuid if held else None)
    generation = held.generation if held else held_network.generation if held_network else None
    return {
        "detail": difference.detail,
        "uuid": UUID(uuid) if uuid else None,
        "generation": generation,
        "server_id": thing.server,
        "network_id": thing.network,
        "verb": str(treatment.verb),
        "reason": treatment.reason,
    }


def _row(host: Host, difference: Difference, judged: dict[str, object], now: datetime) -> Drift:
    return Drift(
        host=host,
        kind=difference.thing.kind,
        name=difference.thing.name,
        direction=difference.direction,
        first_seen=now,
        last_seen=now,
        **judged,
    )
