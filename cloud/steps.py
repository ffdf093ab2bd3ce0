"""The course of Actions: written as it happens, so that an operator sees what, where and how long.

`vms.actions` and the like open it with what control itself did, `vms.reports` adds what hosts
report, `vms.reconcile` what was sent again. `cloud.timeline` reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.db.models import F, Value
from django.db.models.functions import Greatest
from django.utils import timezone

from cloud.models import Action, ActionStep
from cloud.wire import StepName, StepReport

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    from cloud.querysets import SoFar

_UNANSWERED = "no_answer"
# Of one Action: a host that says more of what it did is not written down any further.
MOST_STEPS: Final = 500


@dataclass(frozen=True)
class Placing:
    """How the host was chosen; `passed_over` says of each other host why not."""

    host: str
    began: datetime
    ended: datetime
    passed_over: dict[str, str] = field(default_factory=dict)


def begin(actions: Sequence[Action], host: str, placing: Placing | None = None) -> None:
    """Note that the Actions wait for `host` from now on; call it in their transaction."""
    now = timezone.now()
    steps = []
    for action in actions:
        if placing:
            steps.append(
                ActionStep(
                    action=action,
                    name=StepName.PLACED,
                    host=host,
                    started=placing.began,
                    finished=placing.ended,
                    passed_over=placing.passed_over,
                )
            )
        steps.append(ActionStep(action=action, name=StepName.QUEUED, host=host, started=now))
    ActionStep.objects.bulk_create(steps)


def sent_again(kind: str, ids: Iterable[int]) -> None:
    """Note that what these resources' hosts were told was not answered and is said once more."""
    now = timezone.now()
    unanswered = list(ActionStep.objects.waiting().about(kind, ids))
    for step in unanswered:
        step.finished = now
        step.error_code = _UNANSWERED
        step.error_message = "the host did not answer in time, so it was told again"
    ActionStep.objects.bulk_update(unanswered, ["finished", "error_code", "error_message"])
    ActionStep.objects.bulk_create(
        [
            ActionStep(
                action_id=step.action_id,
                name=StepName.QUEUED,
                host=step.host,
                started=now,
                attempt=step.attempt + 1,
            )
            for step in unanswered
        ],
        ignore_conflicts=True,
    )


def arrived(actions: Sequence[Action], accepted_at: float | None) -> None:
    """Note that the host has got the message, at Unix time `accepted_at` by its clock."""
    open_ones = [action for action in actions if action.status == Action.Status.RUNNING]
    if open_ones:
        moment = _moment(accepted_at) if accepted_at else timezone.now()
        ActionStep.objects.filter(action__in=open_ones, name=StepName.QUEUED, finished=None).update(
            finished=Greatest(F("started"), Value(moment))
        )


def record(
    actions: Iterable[WithAnnotations[Action, SoFar]], host: str, reports: Sequence[StepReport]
) -> None:
    """Write what a host did; a step that is known already becomes what is said of it now."""
    # By what identifies it: a host whose clock was set back may name one twice.
    steps = {
        (action.pk, report.name, report.started): ActionStep(
            action=action,
            name=report.name,
            host=host,
            started=_moment(report.started),
            finished=_moment(report.started) + timedelta(seconds=report.seconds),
            attempt=report.attempts,
            error_code=report.failure.code if report.failure else "",
            error_message=report.failure.message if report.failure else "",
        )
        for action in actions
        if action.steps_so_far + len(reports) <= MOST_STEPS
        for report in reports
    }
    ActionStep.objects.bulk_create(  # no statement for no steps
        steps.values(),
        update_conflicts=True,
        unique_fields=["action", "name", "started"],
        update_fields=["finished", "attempt", "error_code", "error_message"],
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
