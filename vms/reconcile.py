"""The guarantee: a periodic sweep that finds every gap between what should be and what was seen.

Messages may be lost; the rows tell what is missing. The sweep's cost follows what is unmet or
stale, not how many VMs there are; what costs more is done once a minute. Each part is its own
short transaction, and messages leave after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from cloud import buckets, steps
from cloud.actions import end_action
from cloud.actor import SWEEP, acting
from cloud.audit import changing
from cloud.models import Action, Host, IdempotencyKey
from cloud.patience import backoff
from cloud.querysets import waited
from vms import dead_letters, dispatch, overdue, usage
from vms.drift.record import forget_closed
from vms.images import plan_copies
from vms.intent import set_status, want
from vms.lifecycle import Status
from vms.models import VM, ImageCopy
from vms.overdue import Explainer
from vms.private import replication
from vms.restored.verify import ask_unverified
from vms.retirement import free_retired_images
from vms.spec import Power, PowerGoal

log = structlog.get_logger(__name__)

BATCH = 200
# A host repeats what it sees every minute; an observation older than this is asked for again.
STALE = timedelta(minutes=5)
# How long a guest may take to obey its power button before it counts as ignoring it.
SHUTDOWN_PATIENCE = timedelta(minutes=2)
KEEP_IDEMPOTENCY_KEYS = timedelta(days=1)


def sweep() -> None:
    """One round over everything that is not as it should be.

    A part that fails keeps no other from its work. Raises what the first one raised.
    """
    now = timezone.now()
    parts: tuple[Callable[[], object], ...] = (
        partial(end_overdue_actions, now),
        partial(mark_unknown, now),
        partial(recognise, now),
        partial(forgive_ignored_shutdowns, now),
        partial(ask_unverified, now),
        partial(dispatch_due_vms, now),
        partial(replication.rewire_due, now),
        partial(replication.dispatch_due, now, observed_before=now - STALE),
        replication.forget_deleted,
        partial(dispatch_due_images, now),
        partial(free_retired_images, now),
    )
    rarely: tuple[Callable[[], object], ...] = (
        partial(replication.wire_due, now),
        plan_copies,
    )
    _each_tried((*rarely, *parts) if _begins_a_minute(now) else parts)


def _begins_a_minute(now: datetime) -> bool:
    return now.second < settings.SWEEP_SECONDS


def watch(now: datetime) -> None:
    """What of a round needs neither the broker nor a host: hosts are silent, deadlines pass."""
    mark_unknown(now)
    end_overdue_actions(now)


def mark_unknown(now: datetime) -> int:
    """VMs of hosts that do not speak are unknown: silence is neither "off" nor "gone".

    A heartbeat locks its host's row, too: one that is coming in is not overruled by what was
    seen before it, and one that comes later finds what is written here, and takes it back.
    """
    silent = Host.objects.silent(now, settings.HOST_SILENT_SECONDS)
    if not silent.exists():
        return 0
    with transaction.atomic():
        hosts = list(
            silent.select_for_update(of=("self",), no_key=True, skip_locked=True).values_list(
                "pk", flat=True
            )
        )
        if not hosts:
            return 0
        known = VM.objects.filter(host__in=hosts, provisioned=True, deleting=False).exclude(
            status=Status.UNKNOWN
        )
        # Rows that a report holds are left to the next sweep, so neither waits for the other.
        free = list(
            known.select_for_update(of=("self",), skip_locked=True).values_list("pk", flat=True)
        )
        return VM.objects.filter(pk__in=free).update(status=Status.UNKNOWN)


def recognise(now: datetime) -> int:
    """VMs of hosts that speak are as they were seen last.

    A heartbeat says so too, but a sweep that looked just before it came may have the last word.
    """
    taken_for_unknown = (
        VM.objects.filter(status=Status.UNKNOWN, provisioned=True, deleting=False)
        .exclude(observed_power=Power.UNKNOWN)
        .exclude(host__in=Host.objects.silent(now, settings.HOST_SILENT_SECONDS).numbers())
    )
    with transaction.atomic():
        vms = list(
            taken_for_unknown.select_related("host").select_for_update(
                of=("self",), skip_locked=True
            )[:BATCH]
        )
        for vm in vms:
            set_status(vm)
            vm.save(update_fields=["status"])
    return len(vms)


def forgive_ignored_shutdowns(now: datetime) -> int:
    """A guest that ignored its power button runs on, and the status says so again."""
    ignoring = VM.objects.for_spec().filter(
        held_back="",
        goal=PowerGoal.SHUTDOWN,
        observed_power=Power.RUNNING,
        deleting=False,
        goal_since__lt=now - SHUTDOWN_PATIENCE,
    )
    if not ignoring.exists():
        return 0
    with acting(SWEEP), transaction.atomic():
        vms = list(ignoring.select_for_update(of=("self",), skip_locked=True)[:BATCH])
        for vm in vms:
            with changing(vm, "shutdown_ignored"):
                want(vm, PowerGoal.RUNNING)
    return len(vms)


def dispatch_due_vms(now: datetime) -> int:
    """Send again what a speaking host has not confirmed, with a back-off in the row."""
    deaf = Host.objects.deaf(now, settings.HOST_SILENT_SECONDS).numbers()
    due = VM.objects.due(now, observed_before=now - STALE).exclude(host__in=deaf)
    found = list(due.values_list("pk", flat=True)[:BATCH])
    if not found:
        return 0
    again = VM.objects.for_spec().due(now, observed_before=now - STALE).filter(pk__in=found)
    with transaction.atomic():
        vms = list(again.select_for_update(of=("self",), skip_locked=True))
        for vm in vms:
            vm.attempts += 1
            vm.next_dispatch_at = now + backoff(vm.attempts)
            vm.save(update_fields=["attempts", "next_dispatch_at"])
            dispatch.on_commit(vm)
        steps.sent_again("server", [vm.pk for vm in vms if not vm.converged])
    return len(vms)


def dispatch_due_images(now: datetime) -> int:
    """Every host gets every image, so that a new server does not wait for a download.

    One that failed finally is not asked again, the others are: the file may be there alone.
    """
    due = (
        ImageCopy.objects.filter(
            waited(now), ready=False, failure_final=False, image__deleted_at=None
        )
        .exclude(host__in=Host.objects.silent(now, settings.HOST_SILENT_SECONDS).numbers())
        .select_related("image", "host")
    )
    if not due.exists():
        return 0
    with transaction.atomic():
        copies = list(due.select_for_update(of=("self",), skip_locked=True)[:BATCH])
        for copy in copies:
            copy.attempts += 1
            copy.next_dispatch_at = now + backoff(copy.attempts)
            copy.save(update_fields=["attempts", "next_dispatch_at"])
    for copy in copies:
        dispatch.send_image(copy)
    return len(copies)


def end_overdue_actions(now: datetime) -> int:
    """No Action stays open for ever, however many are late; the VM stays usable and deletable.

    One that began in the future gets its time anew, as nobody knows how much of it has passed.
    """
    Action.objects.begun_in_the_future(now).update(
        started=now, deadline=now + (F("deadline") - F("started"))
    )
    ended = 0
    while batch := list(Action.objects.overdue(now).with_course()[:BATCH]):
        explainer = Explainer(batch, now)
        for action in batch:
            message = explainer.explain(action)
            if end_action(action, now, code=overdue.CODE, message=message):
                log.warning("action overdue", action_id=action.pk, reason=message)
                ended += 1
    return ended


def tidy(now: datetime) -> None:
    """Forget what has served its time; like `sweep`, whatever part of it fails."""
    keys = IdempotencyKey.objects.filter(created__lt=now - KEEP_IDEMPOTENCY_KEYS)
    _each_tried(
        (
            partial(usage.condense, now),
            partial(usage.forget, now),
            buckets.tidy,
            partial(dead_letters.tidy, now),
            partial(forget_closed, now),
            keys.delete,
        )
    )


def _each_tried(parts: Iterable[Callable[[], object]]) -> None:
    """Raises what the first part raised that failed, after all of them."""
    failures = [error for part in parts if (error := _tried(part)) is not None]
    if failures:
        raise failures[0]


def _tried(part: Callable[[], object]) -> Exception | None:
    try:
        part()
    except Exception as error:
        log.exception("a part of the round failed, the others go on")
        return error
    return None
