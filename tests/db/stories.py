"""Stories of the audit trail: each verb with what leads to it, and the functions that it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests import factories as make
from vms import reports
from vms.models import VM

Story = Callable[[], object]
stories: dict[str, Story] = {}
told: set[Callable[..., Any]] = set()


def story(verb: str, *functions: Callable[..., Any]) -> Callable[[Story], Story]:
    """Declares what leads to the verb, and which functions it shows."""

    def declare(tell: Story) -> Story:
        stories[verb] = tell
        told.update(functions)
        return tell

    return declare


def running() -> VM:
    make.host()
    make.pool()
    vm = make.ordered().vm
    reports.vm_report(make.report(vm), "host-h1")
    return vm
