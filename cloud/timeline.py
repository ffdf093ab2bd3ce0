"""An Action's course as bars in time: what the API tells and the admin draws. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from cloud.models import Action, ActionStep
from cloud.wire import StepName

_MARGIN = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Bar:
    """One step; `left` and `width` are percent of the whole timeline."""

    step: ActionStep
    started: datetime
    finished: datetime | None
    seconds: float
    left: float
    width: float

    @property
    def under_way(self) -> bool:
        return self.finished is None

    @property
    def failed(self) -> bool:
        return bool(self.step.error_code)


@dataclass(frozen=True)
class Timeline:
    """From `began` to `ended`, which is now while anything is under way."""

    action: Action
    bars: tuple[Bar, ...]
    began: datetime
    ended: datetime
    passed_over: dict[str, str]

    @property
    def seconds(self) -> float:
        return (self.ended - self.began).total_seconds()


def timeline_of(action: Action) -> Timeline:
    """The Action's steps in order; one query."""
    steps = list(action.steps.all())
    now = timezone.now()
    ends = [_end(step, action) or now for step in steps]
    began = min([action.started, *(step.started for step in steps)])
    ended = max([action.finished or now, *ends, began + _MARGIN])
    whole = ended - began
    bars = []
    for step, end in zip(steps, ends, strict=True):
        width = max(end - step.started, timedelta())
        bars.append(
            Bar(
                step=step,
                started=step.started,
                finished=_end(step, action),
                seconds=width.total_seconds(),
                left=100 * ((step.started - began) / whole),
                width=100 * (width / whole),
            )
        )
    placed = next((step for step in steps if step.name == StepName.PLACED), None)
    return Timeline(action, tuple(bars), began, ended, placed.passed_over if placed else {})


def _end(step: ActionStep, action: Action) -> datetime | None:
    """What is still open when the Action ends is not waited for any more."""
    return step.finished or action.finished
