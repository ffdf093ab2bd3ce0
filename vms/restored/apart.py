"""Set restored rows apart from what hosts have, before anybody works with them.

Part of `manage.py restore`, on the restored database that nobody else is connected to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from django.db import connection, transaction
from django.db.models import Max
from django.utils import timezone

from cloud.actions import end_action
from cloud.models import Action, Host
from networks.models import Replica, Withdrawal
from vms.lifecycle import HeldBack, Status
from vms.models import VM, FirewallUse, ForwardedPort
from vms.spec import Power

# Far above what was counted since any backup. Hosts get an address of the mesh by their number, so
# there it is less; their own range of those is bound to 65 thousand.
_STEP: Final = 100_000
_STEPS: Final = {"cloud_host_id_seq": 100}

CODE: Final = "inventory_restored"


@dataclass(frozen=True)
class Marks:
    """How far an inventory has counted: names of sequences → last numbers; highest generation."""

    sequences: Mapping[str, int] = field(default_factory=dict)
    generation: int = 0

    @classmethod
    def of_database(cls) -> Marks:
        """Those of the database that Django is connected to."""
        highest = [
            model.objects.aggregate(highest=Max("generation"))["highest"] or 0
            for model in (VM, Replica)
        ]
        return cls(_sequences(), max(highest))


@dataclass(frozen=True)
class SetApart:
    """How much there is of what."""

    servers: int
    hosts: int
    actions: int


def set_apart(replaced: Marks, taken_at: datetime) -> SetApart:
    """`replaced`: those of the inventory that is given up for this one, if there was any."""
    now = timezone.now()
    with transaction.atomic():
        fence = max(
            int(now.timestamp() * 1000), replaced.generation, Marks.of_database().generation
        )
        _go_on_above(replaced.sequences)
        _raise_generations(fence + 1, now)
        # Those that are cut off too: taken back, they are asked as all others.
        hosts = Host.objects.exclude(uuid=None)
        return SetApart(
            servers=_hold_back(now),
            hosts=hosts.update(unverified_since=now, last_heartbeat=None),
            actions=_end_actions(taken_at, now),
        )


def _hold_back(now: datetime) -> int:
    rows = VM.objects.filter(deleting=False)
    rows.filter(provisioned=True).update(status=Status.UNKNOWN)
    return rows.update(
        held_back=HeldBack.UNVERIFIED,
        observed_power=Power.UNKNOWN,
        converged=False,
        attempts=0,
        next_dispatch_at=now,
        failure_code="",
        failure_message="",
        failure_final=False,
    )


def _raise_generations(fence: int, now: datetime) -> None:
    """Nothing that a host said or says of before proves anything of what is asked from now on."""
    VM.objects.update(generation=fence, converged=False, next_dispatch_at=now)
    # Without a digest every document counts as another one, and gets the next number.
    Replica.objects.update(generation=fence, digest="", converged=False, next_dispatch_at=now)
    Withdrawal.objects.filter(generation__lt=fence).update(generation=fence)
    ForwardedPort.objects.exclude(withdrawn=None).update(withdrawn=fence)
    FirewallUse.objects.update(generation=fence)


def _end_actions(taken_at: datetime, now: datetime) -> int:
    message = (
        f"the inventory was restored from a backup of {taken_at:%Y-%m-%d %H:%M:%S} UTC, when this"
        " was under way: look at what it was about, then ask again"
    )
    return sum(end_action(one, now, code=CODE, message=message) for one in Action.objects.open())


def _go_on_above(replaced: Mapping[str, int]) -> None:
    with connection.cursor() as cursor:
        for name, last in _sequences().items():
            highest = max(last, replaced.get(name, 0)) + _STEPS.get(name, _STEP)
            cursor.execute("SELECT setval(%s::regclass, %s)", [name, highest])


def _sequences() -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sequencename, coalesce(last_value, 0) FROM pg_sequences"
            " WHERE schemaname = current_schema()"
            " AND data_type = 'bigint'::regtype"
        )
        return {str(name): int(last) for name, last in cursor.fetchall()}
