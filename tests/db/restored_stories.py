"""Stories of servers after a restore of the inventory; see `tests.db.stories`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.utils import timezone

from tests.db.stories import running, story
from vms.drift.record import host_inventory
from vms.drift.spec import HostInventory
from vms.restored import apart, verify
from vms.restored.apart import Marks, set_apart
from vms.restored.verify import hear

MODULES = (apart, verify)
# They ask, or put rows back to what was restored.
SILENT: tuple[Callable[..., Any], ...] = (set_apart, verify.ask_unverified)


@story("server.verify", hear)
def _() -> None:
    host = running().host
    set_apart(Marks(), timezone.now())
    host.refresh_from_db()
    assert host.unverified_since
    question = host.unverified_since.isoformat()
    report = HostInventory(str(host.uuid), "boot-1", seq=1, answers=question)
    host_inventory(report, f"host-{host.name}")
