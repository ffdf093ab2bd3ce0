"""Stories of drift; see `tests.db.stories`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cloud.drift import Drift
from tests.db.stories import running, story
from vms.drift import repair
from vms.drift.repair import carry_out, keep, plan, watch

MODULES = (repair,)
# They ask a host, or compute.
SILENT: tuple[Callable[..., Any], ...] = (repair.ask_to_look, repair.plan)


def difference() -> Drift:
    vm = running()
    return Drift.objects.create(
        host=vm.host,
        kind="process",
        name=str(vm.uuid),
        direction="missing",
        server_id=vm.pk,
        verb="send_server",
        reason="the host makes what the server's document says",
    )


@story("drift.keep", keep)
def _() -> None:
    keep(difference())


@story("drift.watch", watch)
def _() -> None:
    row = difference()
    keep(row)
    watch(row)


@story("drift.repair", carry_out, repair.repair)
def _() -> None:
    assert carry_out(plan([difference()])) == 1
