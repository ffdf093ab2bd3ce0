"""What to say of an Action that did not get there in time: how far it came, and what to do next.

`vms.reconcile` ends it with these words. They name the last step of its course (`cloud.steps`)
with its error, or what was waited for. Reads only.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.conf import settings

from cloud.models import Action, ActionStep, Host
from cloud.wire import StepName
from networks.models import FloatingIp, Withdrawal
from vms.models import VM

# Permanent: clients match on it.
CODE = "timeout"

_CLOCK = "%Y-%m-%d %H:%M:%S UTC"
_AFTERWARDS = (
    "The server is still brought to what was asked for as soon as that can be done;"
    " ask again to wait for it, or delete it"
)


class Explainer:
    """Knows the hosts and servers of a batch of Actions, by two queries whatever their number."""

    def __init__(self, actions: Iterable[Action], now: datetime) -> None:
        """`actions`: with `steps` and `resources` prefetched."""
        self._now = now
        ids = {pk for action in actions if (pk := _server_id(action)) is not None}
        self._vms = VM.objects.select_related("host").in_bulk(ids)
        names = {step.host for action in actions for step in action.steps.all()}
        self._hosts = {host.name: host for host in Host.objects.filter(name__in=names)}

    def explain(self, action: Action) -> str:
        """Why the Action, which is past its deadline, was not done."""
        seconds = (action.deadline - action.started).total_seconds()
        said = [f"{action.command} was not done within {seconds:.0f} s"]
        steps = list(action.steps.all())
        vm = self._vms.get(_server_id(action) or 0)
        said.append(_last(steps))
        if (failure := _failure(steps)) is not None:
            said.append(failure)
        elif vm is not None and vm.failure_message and vm.observed_generation >= action.generation:
            said.append(f"The host's last word: {vm.failure_code}: {vm.failure_message}")
        if holders := _holders(action):
            said.append(f"Host {holders} has not let go of the floating IP yet")
        if advice := self._waiting(steps, vm):
            said.append(advice)
        said.append(_AFTERWARDS if vm is not None else "Its server is gone: there is nothing to do")
        return ". ".join(said)

    def _waiting(self, steps: list[ActionStep], vm: VM | None) -> str:
        """What is known of the host that should have done it."""
        host = self._hosts.get(steps[-1].host) if steps else None
        host = host or (vm.host if vm is not None else None)
        if host is None or not host.is_silent(self._now, settings.HOST_SILENT_SECONDS):
            return ""
        if host.revoked_at:
            return (
                f"Host {host.name} was cut off at {host.revoked_at:{_CLOCK}}: `host_add"
                f" {host.name} --again` takes it back, and if the machine is gone for good,"
                f" `host_revoke {host.name} --destroyed` forgets its servers"
            )
        since = f"since {host.last_heartbeat:{_CLOCK}}" if host.last_heartbeat else "ever"
        return (
            f"Host {host.name} has not answered {since}: look at its agent and monitor, and at its"
            " way to the broker"
        )


def _last(steps: list[ActionStep]) -> str:
    if not steps:
        return "No step of it is known"
    last = steps[-1]
    where = f" on {last.host}" if last.host else ""
    again = f", attempt {last.attempt}" if last.attempt > 1 else ""
    if last.name == StepName.QUEUED and last.finished is None:
        return f"Last step: told {last.host} at {last.started:{_CLOCK}}{again}, without an answer"
    how = "failed" if last.error_code else "under way" if last.finished is None else "done"
    return f"Last step: {last.name}{where} at {last.started:{_CLOCK}}{again}, {how}"


def _failure(steps: list[ActionStep]) -> str | None:
    """The last step's own error; that a host was told again is no error of the step."""
    last = steps[-1] if steps else None
    if last is None or not last.error_code:
        return None
    return f"Its error: {last.error_code}: {last.error_message}"


def _holders(action: Action) -> str:
    """Hosts that a move of a floating IP waits for."""
    moved = [one.resource_id for one in action.resources.all() if one.type == FloatingIp.resource]
    if not moved:
        return ""
    held = Withdrawal.objects.filter(address__floatingip__in=moved, holding=None)
    hosts = Host.objects.filter(vms__in=held.values("server_id")).distinct()
    return ", ".join(hosts.values_list("name", flat=True))


def _server_id(action: Action) -> int | None:
    return next((one.resource_id for one in action.resources.all() if one.type == "server"), None)
