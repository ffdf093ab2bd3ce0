"""Opening and ending Actions: what users poll while the cloud works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from cloud import requestid
from cloud.metrics import ACTIONS
from cloud.models import Action, ActionResource, Project

Resource = tuple[str, int]

# Seconds that an Action may take which ends at once.
_AT_ONCE = 60


@dataclass(frozen=True)
class Aim:
    """Which observation ends an Action, and how many seconds it may take."""

    command: str
    goal: str
    generation: int
    seconds: int


def open_action(project: Project, aim: Aim, resources: Sequence[Resource]) -> Action:
    """Write a running Action; call it in the transaction that writes the desired state."""
    now = timezone.now()
    action = Action.objects.create(
        project=project,
        command=aim.command,
        goal=aim.goal,
        generation=aim.generation,
        started=now,
        deadline=now + timedelta(seconds=aim.seconds),
        request_id=requestid.now(),
    )
    ActionResource.objects.bulk_create(
        ActionResource(action=action, type=kind, resource_id=pk) for kind, pk in resources
    )
    return action


def end_action(action: Action, now: datetime, *, code: str = "", message: str = "") -> bool:
    """End a running Action, as an error if there is a code. False: it had already ended."""
    status = Action.Status.ERROR if code else Action.Status.SUCCESS
    end = {
        "status": status,
        "progress": 100,
        "finished": now,
        "error_code": code,
        "error_message": message,
    }
    ended = Action.objects.open().filter(pk=action.pk).update(**end)
    if ended:
        for name, value in end.items():
            setattr(action, name, value)
        transaction.on_commit(ACTIONS.labels(action.command, status.value).inc)
    return bool(ended)


def done_at_once(project: Project, command: str, resource: Resource) -> Action:
    """An Action about something that had nothing to wait for."""
    action = open_action(project, Aim(command, "applied", 1, _AT_ONCE), [resource])
    end_action(action, timezone.now())
    return action
