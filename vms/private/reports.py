"""Write what hosts say of private networks; a report that is late or foreign changes nothing."""

from __future__ import annotations

import structlog
from django.db import transaction
from django.utils import timezone

from cloud.broker import broker_user
from networks.models import Replica
from networks.spec import NetworkReport

log = structlog.get_logger(__name__)


def network_report(report: NetworkReport, sender: str) -> None:
    """Record how far a host is with a network."""
    with transaction.atomic():
        replica = (
            Replica.objects.select_for_update(of=("self",))
            .select_related("host")
            .filter(network=report.network_id, host__uuid=report.host_uuid, host__revoked_at=None)
            .first()
        )
        if replica is None or not _acceptable(replica, report, sender):
            log.info("network report dropped", network=report.network_id, sender=sender)
            return
        current = report.generation == replica.generation
        failure = report.failure if current else None
        replica.observed_generation = report.generation
        replica.observed_at = timezone.now()
        replica.converged = current and report.converged and report.present == replica.wanted
        replica.failure_code = failure.code if failure else ""
        replica.failure_message = failure.message if failure else ""
        if replica.converged:
            replica.attempts = 0
        replica.save(
            update_fields=[
                "observed_generation",
                "observed_at",
                "converged",
                "failure_code",
                "failure_message",
                "attempts",
            ]
        )


def _acceptable(replica: Replica, report: NetworkReport, sender: str) -> bool:
    return (
        sender == broker_user(replica.host.name)
        and replica.observed_generation <= report.generation <= replica.generation
    )
