"""The history of addresses: who held which one at what time, whatever became of them since.

Written in the transaction that changes a holder, by `networks.allocation`, `networks.public_ips`
and `vms.attachments`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import F, Value
from django.db.models.functions import Greatest
from django.utils import timezone

from networks.models import PublicIp, Tenure


@dataclass(frozen=True)
class Bearer:
    """The server that has an address, and its host."""

    server_id: int
    server_name: str
    host_name: str


def pass_to(ip: PublicIp, bearer: Bearer | None) -> Tenure:
    """From now on the address is with this server, or with none."""
    now = timezone.now()
    end_tenures([ip.address_id], now)
    return Tenure.objects.create(
        address_id=ip.address_id,
        since=now,
        project_id=ip.project_id,
        project_name=ip.project.name,
        holder_type=ip.resource,
        holder_id=ip.pk,
        holder_name=ip.name,
        server_id=bearer.server_id if bearer else None,
        server_name=bearer.server_name if bearer else "",
        host_name=bearer.host_name if bearer else "",
    )


def end_tenures(address_ids: Iterable[int], now: datetime) -> int:
    """From now on nobody has these addresses."""
    current = Tenure.objects.filter(address__in=list(address_ids), until=None)
    # A clock that was set back ends nothing before its beginning.
    return current.update(until=Greatest(F("since"), Value(now)))
