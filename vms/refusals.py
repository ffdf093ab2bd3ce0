"""Write what hosts refused to take, where whoever waits for it sees the reason and the remedy.

Nothing that was asked for is forgotten: the sweep sends it again, and a host that was upgraded
takes it.
"""

from __future__ import annotations

from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from cloud.actions import end_action
from cloud.broker import broker_user
from cloud.hosts import Stranger, record_stranger
from cloud.models import Action, Host
from cloud.wire import Introduction, MalformedDocument, Refusal
from networks.models import Replica
from vms.compatibility import FOREIGN, PATIENCE, explanation, problem
from vms.models import VM, ImageCopy

log = structlog.get_logger(__name__)


def refused(refusal: Refusal, sender: str) -> None:
    """Record why a host did not take a document."""
    write = {
        "vms.ensure": _server,
        "vms.remove": _server,
        "networks.ensure": _network,
        "networks.remove": _network,
        "images.fetch": _image,
    }.get(refusal.task)
    if write is None:
        log.warning("refusal of an unknown task dropped", task=refusal.task, sender=sender)
        return
    with transaction.atomic():
        if not write(refusal, sender):
            log.info("refusal dropped", task=refusal.task, number=refusal.number, sender=sender)


def stranger(introduction: Introduction, error: MalformedDocument, sender: str) -> None:
    """Record that a host's heartbeat was not understood: its servers are unknown before long."""
    name, agent = introduction.host, introduction.agent_version
    why = problem(name, agent, introduction.version, error)
    log.warning("heartbeat not understood", host=name, code=why.code, reason=why.message)
    facts = Stranger(name, introduction.host_uuid, agent, why.code, why.message)
    host = record_stranger(facts, sender)
    if host is not None and _is_stranger(host):
        # Nothing is sent to it any more, so that no refusal comes to end what was refused once.
        for vm in VM.objects.filter(host=host, failure_code__in=FOREIGN, converged=False):
            _end_actions(vm)


def _from(refusal: Refusal) -> dict[str, Any]:
    """What is on a host of which anything counts."""
    return {"host__uuid": refusal.host_uuid, "host__revoked_at": None}


def _server(refusal: Refusal, sender: str) -> bool:
    """Whether it counts. What was seen of the server stays, it is only not going to change."""
    found = VM.objects.select_related("host").select_for_update(of=("self",))
    vm = found.filter(pk=refusal.number, **_from(refusal)).first()
    if vm is None or sender != broker_user(vm.host.name) or refusal.generation != vm.generation:
        return False
    vm.failure_code = refusal.failure.code
    vm.failure_message = explanation(vm.host.name, refusal)
    vm.save(update_fields=["failure_code", "failure_message"])
    if vm.attempts >= PATIENCE or _is_stranger(vm.host):
        _end_actions(vm)
    return True


def _end_actions(vm: VM) -> None:
    """With the reason and the remedy that the server shows."""
    now = timezone.now()
    waiting = Action.objects.settled_by("server", vm.pk, vm.generation)
    for action in waiting.filter(status=Action.Status.RUNNING):
        end_action(action, now, code=vm.failure_code, message=vm.failure_message)


def _is_stranger(host: Host) -> bool:
    """Whether control has not understood it for so long that nothing is sent again."""
    known = {problem["code"] for problem in host.problems}
    return bool(known & FOREIGN) and host.is_silent(timezone.now(), settings.HOST_SILENT_SECONDS)


def _network(refusal: Refusal, sender: str) -> bool:
    found = Replica.objects.select_related("host").select_for_update(of=("self",))
    replica = found.filter(network=refusal.number, **_from(refusal)).first()
    if replica is None or sender != broker_user(replica.host.name):
        return False
    if refusal.generation != replica.generation:
        return False
    replica.failure_code = refusal.failure.code
    replica.failure_message = explanation(replica.host.name, refusal)
    replica.save(update_fields=["failure_code", "failure_message"])
    return True


def _image(refusal: Refusal, sender: str) -> bool:
    found = ImageCopy.objects.select_related("host").select_for_update(of=("self",))
    copy = found.filter(image=refusal.number, **_from(refusal)).first()
    if copy is None or sender != broker_user(copy.host.name):
        return False
    copy.failure_code = refusal.failure.code
    copy.failure_message = explanation(copy.host.name, refusal)
    copy.updated = timezone.now()
    copy.save(update_fields=["failure_code", "failure_message", "updated"])
    return True
