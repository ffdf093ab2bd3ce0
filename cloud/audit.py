"""The audit trail: who did what, to what, and what it was before.

Actions write their entry here, in the transaction of the change itself, so both exist or
neither. An entry costs one INSERT: it is made of the row in memory, which is why writers keep
their rows locked or name the old values in their UPDATE (`write`). The database refuses to change
or delete entries (migration 0002).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Model
from django.db.transaction import TransactionManagementError

from cloud import actor, requestid
from cloud.errors import Conflict
from cloud.models import Action, AuditEntry, Project
from cloud.snapshots import Snapshot, difference, policy_of, snapshot


@dataclass
class Change:
    """What is happening to a row. Set `action` to the Action that the user polls for it."""

    action: Action | None = None


@contextmanager
def changing(row: Model, verb: str = "", *, always: bool = False) -> Iterator[Change]:
    """Record what the block does to the row: makes it, changes it or deletes it.

    The row in memory has to follow what is written. A block that changes nothing leaves no entry,
    unless `always` says that it has an effect which no field shows. Without a verb it is `create`
    or `update`.
    """
    new = row._state.adding
    before = None if new else snapshot(row)
    subject = None if new else _Subject.of(row)
    change = Change()
    yield change
    after = None if row.pk is None else snapshot(row)
    if before != after or always:
        verb = verb or ("create" if new else "update")
        _record(subject or _Subject.of(row), verb, row, before, after, change.action)


def created(row: Model, verb: str = "create", *, action: Action | None = None) -> None:
    """Record a row that was made just now."""
    _record(_Subject.of(row), verb, row, None, snapshot(row), action)


def changed(row: Model, before: Snapshot, verb: str = "update") -> None:
    """Record how the row differs from an earlier snapshot; nothing if it does not."""
    after = snapshot(row)
    if before != after:
        _record(_Subject.of(row), verb, row, before, after, None)


def write(
    row: Model, values: Mapping[str, Any], verb: str = "update", action: Action | None = None
) -> None:
    """Write and record these fields, if they are still as `row` has them.

    Raises Conflict if somebody else changed them since the row was read: then what was before
    would be untrue.
    """
    seen = {name: getattr(row, name) for name in values}
    with transaction.atomic(), changing(row, verb) as change:
        change.action = action
        if not type(row)._default_manager.filter(pk=row.pk, **seen).update(**values):
            raise Conflict(f"{row} was changed at the same time: try again")
        for name, value in values.items():
            setattr(row, name, value)


@dataclass(frozen=True)
class _Subject:
    """What an entry is about, in words that outlive it."""

    id: int
    name: str

    @classmethod
    def of(cls, row: Model) -> _Subject:
        return cls(row.pk, str(row))


def _record(
    subject: _Subject,
    verb: str,
    row: Model,
    before: Snapshot | None,
    after: Snapshot | None,
    action: Action | None,
) -> None:
    if not transaction.get_connection().in_atomic_block:
        raise TransactionManagementError("an entry belongs in the transaction of its change")
    policy = policy_of(row)
    if verb not in policy.verbs:
        raise ValueError(f"{verb!r} is not among the verbs of {policy.kind}: declare it")
    who = actor.current()
    project: Project | None = row if isinstance(row, Project) else getattr(row, "project", None)
    was, became = difference(policy, before, after)
    AuditEntry.objects.create(
        actor_kind=who.kind,
        actor_id=who.id,
        actor_name=who.name,
        project_id=project.pk if project else None,
        project_name=project.name if project else "",
        verb=f"{policy.kind}.{verb}",
        resource_type=policy.kind,
        resource_id=subject.id,
        resource_name=subject.name,
        before=was,
        after=became,
        request_id=requestid.current() or "",
        action_id=action.pk if action else None,
    )
