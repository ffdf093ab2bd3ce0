"""What control is told of a VM's steps: each once, what is tried again and again as one."""

from __future__ import annotations

from cloud.wire import MOST_STEPS, Failure, StepName, StepReport
from vms.host import course
from vms.host.plan import Step

REFUSED = Failure("qemu_failed", "it did not start", retryable=True)
UNREACHABLE = Failure("image_unreachable", "no answer", retryable=True)


def step(
    name: StepName, started: float, seconds: float = 0.5, failure: Failure | None = None
) -> StepReport:
    return StepReport(name, started, seconds, failure=failure)


def test_steps_follow_each_other() -> None:
    disk, links = step(StepName.DISK, 1), step(StepName.LINKS, 2)
    assert course.taken(course.taken((), disk), links) == (disk, links)


def test_the_same_failure_again_is_the_same_step_for_longer() -> None:
    steps = course.taken((), step(StepName.QEMU, 10, failure=REFUSED))
    steps = course.taken(steps, step(StepName.QEMU, 20, failure=REFUSED))
    assert steps == (StepReport(StepName.QEMU, 10, 10.5, attempts=2, failure=REFUSED),)


def test_the_success_after_failures_is_a_further_attempt_beside_them() -> None:
    steps = course.taken((), step(StepName.QEMU, 10, failure=REFUSED))
    steps = course.taken(steps, step(StepName.QEMU, 20))
    assert steps == (
        StepReport(StepName.QEMU, 10, 0.5, attempts=1, failure=REFUSED),
        StepReport(StepName.QEMU, 20, 0.5, attempts=2),
    )


def test_another_failure_is_a_further_attempt_too() -> None:
    steps = course.taken((), step(StepName.IMAGE, 10, failure=UNREACHABLE))
    steps = course.taken(steps, step(StepName.IMAGE, 20, failure=REFUSED))
    assert [(one.attempts, one.failure) for one in steps] == [(1, UNREACHABLE), (2, REFUSED)]


def test_a_second_start_after_a_success_begins_a_new_count() -> None:
    steps = course.taken((), step(StepName.QEMU, 10))
    assert course.taken(steps, step(StepName.QEMU, 20))[1].attempts == 1


def test_no_course_grows_without_end() -> None:
    steps: course.Course = ()
    for moment in range(100):
        steps = course.taken(steps, step(StepName.QEMU, moment))
    assert len(steps) == MOST_STEPS
    assert steps[-1].started == 99


def test_a_failure_is_kept_after_it_was_told_so_that_its_attempts_are_counted_on() -> None:
    failed = step(StepName.QEMU, 10, failure=REFUSED)
    assert course.after_telling((step(StepName.DISK, 9), failed)) == (failed,)
    assert course.after_telling((failed, step(StepName.QEMU, 11))) == ()


def test_a_step_that_only_got_longer_is_no_news() -> None:
    told = (step(StepName.QEMU, 10, failure=REFUSED),)
    longer = course.taken(told, step(StepName.QEMU, 20, failure=REFUSED))
    assert not course.has_news(longer, told)
    assert course.has_news(course.taken(longer, step(StepName.QEMU, 30)), told)


def test_every_step_that_changes_something_has_a_name_for_people() -> None:
    silent = {one for one in Step if course.name_of(one) is None}
    assert silent == {Step.PRESS, Step.RESUME, Step.GIVE_UP, Step.NOTE_HALT}
