"""Where the moments of a request are found: rows, this machine's logs, those of every host.

A source is a function of a usable request id that yields moments, and a Gap for what it could
not have; to add one, name it in SOURCES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from amqp.exceptions import AMQPError
from kombu.exceptions import OperationalError

from cloud import logsearch
from cloud.celery import app
from cloud.logsearch import Answer, Gap, Line
from cloud.models import Action, ActionStep, AuditEntry, Host
from cloud.story.moments import Moment, Story, compose, from_line
from cloud.wire import known

Source = Callable[[str], Iterable[Moment | Gap]]

# A host ends its search after `logsearch.MAX_SECONDS` and has to send what it found.
_ANSWER_SECONDS = logsearch.MAX_SECONDS + 2


def tell(request_id: str) -> Story:
    """Everything about a usable request id."""
    return compose(part for source in SOURCES for part in source(request_id))


def actions(request_id: str) -> Iterator[Moment]:
    """What was asked for, and how it ended."""
    for action in Action.objects.of_request(request_id).prefetch_related("resources"):
        known = {"action_id": action.pk}
        about = {resource.type: resource.resource_id for resource in action.resources.all()}
        asked = {
            "goal": action.goal,
            "generation": action.generation,
            "deadline": action.deadline.isoformat(timespec="seconds"),
        }
        status = {} if action.finished else {"status": "still running"}
        yield Moment(
            action.started,
            "row",
            f"{action.command} asked for",
            fields={**known, **about, **asked, **status},
        )
        if action.finished:
            failed = action.status == Action.Status.ERROR
            why = {"code": action.error_code, "reason": action.error_message} if failed else {}
            yield Moment(
                action.finished,
                "row",
                f"{action.command} ended: {action.status}",
                fields={**known, **why},
                is_error=failed,
            )


def steps(request_id: str) -> Iterator[Moment]:
    """What was done for it, where, and how long that took."""
    for step in ActionStep.objects.of_request(request_id):
        failed = bool(step.error_code)
        why = {"code": step.error_code, "reason": step.error_message} if failed else {}
        took = (
            {"duration": round((step.finished - step.started).total_seconds(), 4)}
            if step.finished
            else {}
        )
        attempt = {"attempt": step.attempt} if step.attempt > 1 else {}
        passed_over = {f"not {name}": reason for name, reason in step.passed_over.items()}
        yield Moment(
            step.started,
            "row",
            step.name,
            host=step.host,
            fields={"action_id": step.action_id, **took, **attempt, **why, **passed_over},
            is_error=failed,
        )


def audit(request_id: str) -> Iterator[Moment]:
    """What was changed, and by whom."""
    for entry in AuditEntry.objects.filter(request_id=request_id):
        yield Moment(
            entry.at,
            "row",
            f"{entry.verb} by {entry.actor_kind} {entry.actor_name}",
            fields={entry.resource_type: entry.resource_id, "name": entry.resource_name},
        )


def own_logs(request_id: str) -> Iterator[Moment | Gap]:
    """What this machine's logs say."""
    yield from _moments(logsearch.search(request_id))


def host_logs(request_id: str) -> Iterator[Moment | Gap]:
    """What the hosts' logs say: each keeps its own, so each is asked."""
    names = [host.name for host in Host.objects.all()]
    try:
        replies = _ask(names, request_id) if names else {}
    except (OperationalError, AMQPError, OSError) as error:
        yield Gap(f"RabbitMQ does not answer ({error}): the part of all hosts is missing")
        return
    for name in names:
        if name not in replies:
            yield Gap(f"{name} did not answer: its part is missing")
            continue
        try:
            answer = msgspec.convert(replies[name], known(Answer))
        except msgspec.ValidationError as error:
            yield Gap(f"{name} answered something else ({error}): its part is missing")
            continue
        yield from _moments(answer.lines, name)
        yield from (Gap(f"{name}: {gap.reason}") for gap in answer.gaps)


SOURCES: tuple[Source, ...] = (audit, actions, steps, own_logs, host_logs)


def _moments(found: Iterable[Line | Gap], host: str = "") -> Iterator[Moment | Gap]:
    for part in found:
        moment = part if isinstance(part, Gap) else from_line(part, host)
        if moment:
            yield moment


def _ask(names: list[str], request_id: str) -> dict[str, Any]:
    """Each host's raw reply by its name, of those that answered in time."""
    with app.connection_for_write() as connection:
        # Celery itself would try for ever.
        connection.ensure_connection(max_retries=1, timeout=2)
        replies = app.control.broadcast(
            "trace",
            {"request_id": request_id},
            destination=[f"agent@{name}" for name in names],
            connection=connection,
            reply=True,
            timeout=_ANSWER_SECONDS,
        )
    return {
        node.removeprefix("agent@"): reply for each in replies or () for node, reply in each.items()
    }
