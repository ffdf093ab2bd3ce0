"""A host is destroyed: an operator's word takes the place of the proof that it can give no more.

Without either its servers would be `deleting` and their addresses held for ever, as silence proves
nothing. If the machine comes back all the same, it is a new one to the inventory: what it has of
its servers nobody knows, so drift lists them, and what they hold is kept from others.
"""

from __future__ import annotations

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from cloud.actions import end_action
from cloud.audit import changing
from cloud.broker import purge_host
from cloud.drift import Survey
from cloud.errors import Conflict, NotFound
from cloud.models import Action, Host
from networks.models import Replica
from vms.attachments import let_go
from vms.errands import lock_vm
from vms.firewalls.membership import unguard
from vms.forgetting import forget
from vms.lifecycle import ActionGoal
from vms.models import VM, ImageCopy
from vms.private.hosts import cut_off

log = structlog.get_logger(__name__)

# Of Actions that waited for the host; permanent.
CODE = "host_destroyed"


def check_silent(host: Host) -> None:
    """Raises Conflict if the host speaks: then it is not destroyed."""
    if not host.is_silent(timezone.now(), settings.HOST_SILENT_SECONDS):
        raise Conflict(
            f"host {host} speaks, so it is not destroyed: delete its servers, or stop the machine"
        )


def write_off(host: Host) -> int:
    """Forget the host's servers and all else that it had; answers how many servers that were.

    The name is free for another machine. Repeat it if it raises BrokerRefused. Raises Conflict if
    the host speaks.
    """
    check_silent(host)
    cut_off(host)
    # What waits for it asks for servers that are forgotten now.
    purge_host(settings.BROKER_URL, host.name)
    numbers = VM.objects.filter(host=host).order_by("pk").values_list("pk", flat=True)
    count = sum(_forget(pk, host) for pk in list(numbers))
    with transaction.atomic():
        _forget_machine(Host.objects.select_for_update(no_key=True).get(pk=host.pk))
    log.warning("host written off", host=host.name, servers=count)
    return count


def _forget(pk: int, host: Host) -> bool:
    with transaction.atomic():
        try:
            vm = lock_vm(pk)
        except NotFound:
            return False
        _end_actions(vm, host)
        if not vm.deleting:
            vm.deleting = True
            let_go(vm)
            unguard(vm)
        forget(vm)
    return True


def _end_actions(vm: VM, host: Host) -> None:
    now = timezone.now()
    for action in Action.objects.open().of("server", vm.pk):
        if action.goal == ActionGoal.REMOVED:
            end_action(action, now)
        else:
            message = f"host {host} was destroyed, and server {vm.name} with it: make it anew"
            end_action(action, now, code=CODE, message=message)


def _forget_machine(host: Host) -> None:
    now = timezone.now()
    # Kept, as if it had proved that nothing is left: what it may be told later counts on from here.
    Replica.objects.filter(host=host).update(
        wanted=False,
        digest="",
        observed_generation=F("generation"),
        converged=True,
        failure_code="",
        failure_message="",
    )
    ImageCopy.objects.filter(host=host).delete()
    Survey.objects.filter(host=host).delete()
    host.drift.filter(closed_at=None).update(closed_at=now)
    with changing(host, "write_off", always=True):
        host.uuid = host.refused_uuid = host.unverified_since = host.uplink_ip = None
        host.boot_id, host.leftovers, host.problems = "", [], []
        host.save()
