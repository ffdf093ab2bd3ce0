"""The course of a VM's steps as control is told of it: what was done, when, and how long it took.

`VmMemory.steps` holds what control may not have heard yet. Pure.
"""

from __future__ import annotations

from msgspec import structs

from cloud.wire import MOST_STEPS, StepName, StepReport
from vms.host.plan import Step

Course = tuple[StepReport, ...]

# What people are told a step is; NOTE_HALT only writes something down.
_NAMES = {
    Step.WAIT_FOR_IMAGE: StepName.IMAGE,
    Step.PROVISION: StepName.DISK,
    Step.ADD_LINKS: StepName.LINKS,
    Step.REMOVE_LINKS: StepName.LINKS,
    Step.PLUG: StepName.LINKS,
    Step.START: StepName.QEMU,
    Step.RESET: StepName.QEMU,
    Step.REVIVE: StepName.QEMU,
    Step.QUIT: StepName.QEMU,
}


def name_of(step: Step) -> StepName | None:
    """None for what is no step of its own: PRESS, RESUME, GIVE_UP are parts of the guest's."""
    return _NAMES.get(step)


def taken(course: Course, step: StepReport) -> Course:
    """The course with one more step.

    A step that fails again for the same reason is the same step for longer: one that is tried
    every second for an hour stays one line. Whatever follows a failure is a further attempt.
    """
    last = course[-1] if course else None
    if last is None or last.name is not step.name or last.failure is None:
        return (*course, step)[-MOST_STEPS:]
    step = structs.replace(step, attempts=last.attempts + 1)
    if step.failure is None or step.failure.code != last.failure.code:
        return (*course, step)[-MOST_STEPS:]
    seconds = step.started + step.seconds - last.started
    longer = structs.replace(step, started=last.started, seconds=max(seconds, 0.0))
    return (*course[:-1], longer)


def after_telling(course: Course) -> Course:
    """What is kept once control has heard it all: the last step if it failed, to count on."""
    return course[-1:] if course and course[-1].failure else ()


def has_news(course: Course, told: Course) -> bool:
    """Whether there is a step that was not told at all; one that only got longer is none."""
    known = {(step.name, step.started) for step in told}
    return any((step.name, step.started) not in known for step in course)
