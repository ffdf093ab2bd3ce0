"""What the audit trail may know of a row: its fields as plain values, never a secret.

Every audited model declares a `Policy`. `cloud.audit` takes a snapshot of a row before and after
a change and stores what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from django.db.models import Field, ForeignKey, Model
from django.utils.crypto import salted_hmac

ModelT = TypeVar("ModelT", bound=Model)
Snapshot = Mapping[str, Any]

SECRET = "(secret)"


@dataclass(frozen=True)
class Policy:
    """How changes of a model are told.

    `kind` is what entries call its rows, `verbs` are all that can happen to them. A `secret`
    field shows only whether it is set. A `digested` one, which users fill with whatever they
    want, shows its length and a keyed digest. `unrecorded` fields leave nothing: they are what
    hosts report, and bookkeeping. `many` maps many-to-many fields to the column that names what
    they hold, `derived` are properties that tell what other tables say of the row; reading them
    costs a query each.
    """

    kind: str
    verbs: tuple[str, ...]
    secret: tuple[str, ...] = ()
    digested: tuple[str, ...] = ()
    unrecorded: tuple[str, ...] = ()
    many: Mapping[str, str] = field(default_factory=dict)
    derived: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reference:
    """Another row; its name is known only where it was loaded anyway, so only the id counts."""

    id: int
    name: str | None = field(compare=False)


policies: dict[type[Model], Policy] = {}


def audited(policy: Policy) -> Callable[[type[ModelT]], type[ModelT]]:
    """Declares how changes of the model are told."""

    def declare(model: type[ModelT]) -> type[ModelT]:
        policies[model] = policy
        return model

    return declare


def policy_of(row: Model) -> Policy:
    # The user of a request is a lazy stand-in, whose type is not the model.
    return policies[row._meta.model]


def kinds() -> list[str]:
    return sorted(policy.kind for policy in policies.values())


def verbs() -> list[str]:
    """All verbs that entries can have, as `kind.verb`."""
    return sorted(f"{one.kind}.{verb}" for one in policies.values() for verb in one.verbs)


def snapshot(row: Model) -> Snapshot:
    """The recorded fields of the row as it is in memory; holds secrets, so it is never stored."""
    policy = policy_of(row)
    seen = {
        column.name: _value(row, column)
        for column in row._meta.concrete_fields
        if column.name not in policy.unrecorded
    }
    for name, label in policy.many.items():
        seen[name] = sorted(getattr(row, name).values_list(label, flat=True))
    return seen | {name: getattr(row, name) for name in policy.derived}


def difference(
    policy: Policy, before: Snapshot | None, after: Snapshot | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What changed, fit to be stored. None, there was or is no such row, stays None."""
    if before is None or after is None:
        names = list(before or after or ())
    else:
        names = [name for name in before if before[name] != after[name]]
    return _shown(policy, before, names), _shown(policy, after, names)


def _value(row: Model, column: Field[Any, Any]) -> Any:
    value = column.value_from_object(row)
    if isinstance(column, ForeignKey) and value is not None:
        cached = column.get_cached_value(row, default=None)
        return Reference(value, None if cached is None else str(cached))
    if isinstance(value, dict | list):
        return deepcopy(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _shown(policy: Policy, seen: Snapshot | None, names: list[str]) -> dict[str, Any] | None:
    if seen is None:
        return None
    return {name: _masked(policy, name, seen[name]) for name in names}


def _masked(policy: Policy, name: str, value: Any) -> Any:
    if name in policy.secret:
        return SECRET if value else value
    if name in policy.digested and value:
        # Keyed, so that nobody finds out a secret in a known template by trying.
        digest = salted_hmac(__name__, value, algorithm="sha256").hexdigest()
        return {"bytes": len(value.encode()), "hmac_sha256": digest}
    if isinstance(value, Reference):
        return {"id": value.id, "name": value.name}
    return value
