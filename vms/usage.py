"""What servers use: samples of their hosts, from the report to the series that clients ask for.

Hosts send one report a minute with all their VMs. After two days samples are averaged into
half hours, after thirty they are forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from django.db import connection
from django.utils import timezone

from cloud.broker import host_of
from vms.models import VM, UsageSample
from vms.spec import Usage, UsageReport

log = structlog.get_logger(__name__)

KEEP_SAMPLES = timedelta(days=2)
KEEP_AVERAGES = timedelta(days=30)
AVERAGE_SECONDS: Final = 1800
# Of one `tidy`: a day of half hours, so that an interrupted clean-up catches up.
_CONDENSATIONS = 48
_FORGOTTEN_AT_ONCE = 20_000

MOST_VALUES = 500
USUAL_VALUES = 200
# Hosts measure no oftener.
LEAST_STEP = 60
# What follows sooner upon the last sample, or is of before it, is not stored.
_LEAST: Final = timedelta(seconds=LEAST_STEP / 2)

# The contract's series by type, and the column that each is read from.
SERIES: Final = {
    "cpu": {"cpu": "cpu"},
    "disk": {
        "disk.0.iops.read": "disk_iops_read",
        "disk.0.iops.write": "disk_iops_write",
        "disk.0.bandwidth.read": "disk_bandwidth_read",
        "disk.0.bandwidth.write": "disk_bandwidth_write",
    },
    "network": {
        "network.0.pps.in": "network_pps_in",
        "network.0.pps.out": "network_pps_out",
        "network.0.bandwidth.in": "network_bandwidth_in",
        "network.0.bandwidth.out": "network_bandwidth_out",
    },
}
# All that a sample measures, and so what is averaged.
MEASURES: Final = (*(name for name in Usage.__struct_fields__ if name not in ("vm_id", "seconds")),)

Values = list[tuple[float, float]]


@dataclass(frozen=True)
class Period:
    """From `start` to before `end`, in steps of `step` seconds."""

    start: datetime
    end: datetime
    step: int

    @classmethod
    def of(cls, start: datetime, end: datetime, step: float | None) -> Period:
        """With the step that was asked for, or a wider one if that gave too many values."""
        most = MOST_VALUES if step else USUAL_VALUES
        least = math.ceil((end - start).total_seconds() / most)
        return cls(start, end, max(math.ceil(step or 0), least, LEAST_STEP))


def usage_report(report: UsageReport, sender: str) -> None:
    """Store the samples of the sender's own VMs; a report that comes twice changes nothing."""
    # A host whose clock is ahead measured no later than now.
    at = min(datetime.fromtimestamp(report.at, UTC), timezone.now())
    columns = {name: [getattr(usage, name) for usage in report.usages] for name in _REPORTED}
    about: dict[str, Any] = {
        "at": at,
        "host_uuid": report.host_uuid,
        "host": host_of(sender),
        "least": _LEAST,
    }
    with connection.cursor() as cursor:
        cursor.execute(_STORE, {**columns, **about})
        if not cursor.rowcount:
            log.info("usage dropped", host=report.host_uuid, sender=sender)


def series(vm: VM, types: Collection[str], period: Period) -> dict[str, Values]:
    """Each series' (Unix time, value) by name; a step in which nothing was measured is left out."""
    columns = {name: column for kind in types for name, column in SERIES[kind].items()}
    found: dict[str, Values] = {name: [] for name in columns}
    rows = UsageSample.objects.filter(vm=vm).in_steps(period, columns.values())
    origin = period.start.timestamp()
    for row in rows:
        for name, column in columns.items():
            value = row[f"mean_{column}"]
            if value is not None:
                found[name].append((origin + row["number"] * period.step, value))
    return found


def condense(now: datetime) -> int:
    """Average samples that are past their time, a half hour of all VMs at once; rows replaced."""
    replaced = 0
    for _ in range(_CONDENSATIONS):
        oldest = UsageSample.objects.fine().oldest()
        if oldest is None:
            break
        # A half hour is averaged once it is over and old as a whole.
        end = math.ceil(oldest.timestamp() / AVERAGE_SECONDS) * AVERAGE_SECONDS
        until = datetime.fromtimestamp(end, UTC)
        if until > now - KEEP_SAMPLES:
            break
        with connection.cursor() as cursor:
            cursor.execute(_CONDENSE, {"until": until, "seconds": AVERAGE_SECONDS})
            replaced += cursor.rowcount
    return replaced


def forget(now: datetime) -> int:
    """Delete averages that nobody may ask for any more, a bounded number of them."""
    old = UsageSample.objects.filter(condensed=True, at__lt=now - KEEP_AVERAGES)
    ids = old.order_by("at").values("pk")[:_FORGOTTEN_AT_ONCE]
    return UsageSample.objects.filter(pk__in=ids).delete()[0]


# What a host tells of a VM, with the types of the columns.
_TYPES: Final = {"vm_id": "bigint", "memory_bytes": "bigint"}
_REPORTED: Final = Usage.__struct_fields__
# The rows of VMs are locked, in the order that all lock them, so that none is deleted before the
# samples are there.
_STORE = f"""
    WITH own AS (
        SELECT told.* FROM unnest({
    ", ".join(f"%({name})s::{_TYPES.get(name, 'float8')}[]" for name in _REPORTED)
}) AS told({", ".join(_REPORTED)})
        JOIN vms_vm AS vm ON vm.id = told.vm_id
        JOIN cloud_host AS host ON host.id = vm.host_id
        WHERE host.uuid = %(host_uuid)s AND host.name = %(host)s AND host.revoked_at IS NULL
            AND NOT EXISTS (
                SELECT FROM vms_usagesample AS later
                WHERE later.vm_id = vm.id AND later.at > %(at)s - %(least)s
            )
        ORDER BY vm.id FOR KEY SHARE OF vm
    )
    INSERT INTO vms_usagesample (at, condensed, {", ".join(_REPORTED)})
    SELECT %(at)s, FALSE, {", ".join(_REPORTED)} FROM own
    ON CONFLICT (vm_id, at) DO NOTHING
"""
_CONDENSE = f"""
    WITH old AS (
        DELETE FROM vms_usagesample WHERE NOT condensed AND at <= %(until)s RETURNING *
    )
    INSERT INTO vms_usagesample (vm_id, at, seconds, condensed, {", ".join(MEASURES)})
    SELECT vm_id, %(until)s, %(seconds)s, TRUE, {
    ", ".join(
        f"sum({name} * seconds) / sum(seconds) FILTER (WHERE {name} IS NOT NULL)"
        for name in MEASURES
    )
}
    FROM old WHERE vm_id IN (SELECT id FROM vms_vm) GROUP BY vm_id
    ON CONFLICT (vm_id, at) DO NOTHING
"""
