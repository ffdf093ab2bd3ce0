"""The simulation can fail: a guard that is taken out of the code is missed in a few schedules."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cloud import files
from networks.host import outlets
from tests.simulation.faults import Faults
from tests.simulation.runs import Studio
from tests.simulation.scenes import BY_NAME
from vms import dispatch, reconcile, reports
from vms.host import converge, observe, store
from vms.host.plan import Guest

pytestmark = [pytest.mark.django_db, pytest.mark.faults]


def nothing(*_: Any, **__: Any) -> None:
    """What is left of a guard that was taken out."""


def none_due(*_: Any, **__: Any) -> int:
    return 0


def _silence_is_absence(*arguments: Any) -> Guest:
    seen = _guest(*arguments)
    return Guest.ABSENT if seen is Guest.SILENT else seen


def _own_draft(path: Path, content: bytes, **more: Any) -> None:
    """A name for each attempt, as `tempfile` makes them: nobody clears away what a crash left."""
    draft = path.with_name(f".{path.name}.{next(_numbers)}")
    _write(draft, content, **more)
    draft.replace(path)


def _no_steps(*_: Any) -> list[Any]:
    return []


_guest, _write = observe.guest, files.write
_numbers = iter(range(10**9))

Change = tuple[Any, str, Callable[..., Any]]


@dataclass(frozen=True)
class Mutation:
    """What is changed in the code, and where the simulation should miss it."""

    name: str
    scene: str
    change: Change
    plans: tuple[str, ...]


def _many(kind: str, count: int, step: int = 1) -> tuple[str, ...]:
    return tuple(f"{kind}:{number}" for number in range(0, count * step, step))


MUTATIONS = (
    Mutation(
        "tombstones are not looked at",
        "create-and-delete",
        (store, "_check_alive", nothing),
        _many("storm", 12),
    ),
    Mutation(
        "old generations are accepted",
        "off-and-on",
        (store, "_check_order", nothing),
        _many("storm", 12),
    ),
    Mutation(
        "a silent QEMU is taken for one that is not there",
        "qemu-is-silent",
        (observe, "guest", _silence_is_absence),
        ("none",),
    ),
    Mutation(
        "a host says that a server is gone and has removed nothing",
        "delete-and-create",
        (converge, "removal_steps", _no_steps),
        ("none",),
    ),
    Mutation(
        "hosts are told before the transaction has ended",
        "create",
        (dispatch, "on_commit", dispatch.send),
        _many("kill", 4),
    ),
    # Of a server that its host knows, the host's own reports make control ask again as well.
    Mutation(
        "nothing is ever sent again",
        "create",
        (reconcile, "dispatch_due_vms", none_due),
        _many("broker", 4),
    ),
    Mutation(
        "a way outside is never taken away",
        "user-delete",
        (outlets, "remove", nothing),
        ("none",),
    ),
    Mutation(
        "each attempt to write a document has a draft of its own",
        "create",
        (files, "write", _own_draft),
        _many("kill", 40),
    ),
    Mutation(
        "what a host let go of is not noted",
        "unassign-floating",
        (reports, "_settle_addresses", nothing),
        ("none",),
    ),
)


@pytest.fixture
def studio(place: Path) -> Studio:
    return Studio(place)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_a_missing_guard_is_found(studio: Studio, mutation: Mutation) -> None:
    with ExitStack() as stack, studio.scene(BY_NAME[mutation.scene]) as rehearsed:
        stack.enter_context(mock.patch.object(*mutation.change))
        found = (run for run in map(rehearsed.play, map(Faults, mutation.plans)) if run.wrong)
        first = next(found, None)
    assert first is not None, "the simulation saw nothing"
