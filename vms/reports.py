"""Write what hosts saw. Reports come twice, late or out of order; old ones change nothing.

The broker verified the sender's `user_id`; a report about another host's VM is dropped and
logged. A missing report never means anything.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from msgspec import to_builtins

from cloud import steps
from cloud.actions import end_action
from cloud.actor import Actor, acting
from cloud.audit import changing
from cloud.broker import broker_user
from cloud.hosts import Heartbeat, note_heartbeat, record_heartbeat
from cloud.metrics import observe_step
from cloud.models import Action, Host
from networks.allocation import withdrawn
from vms import ports
from vms.firewalls.membership import unguard
from vms.floating_ips import finish_moves, is_moving
from vms.forgetting import forget
from vms.images import plan_copies
from vms.intent import abandon, set_status, want
from vms.lifecycle import SUCCESS, ActionGoal, outcome_of
from vms.models import VM, Image, ImageCopy, Nic
from vms.private.hosts import follow_tunnel
from vms.spec import HostReport, ImageReport, PowerGoal, VmReport

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    from cloud.querysets import SoFar

log = structlog.get_logger(__name__)


def vm_report(report: VmReport, sender: str) -> None:
    """Record one observation of a VM and end the Actions it fulfils."""
    with acting(Actor.host(sender)), transaction.atomic():
        vm = (
            VM.objects.select_related("host__location", "project")
            .select_for_update(of=("self",))
            .filter(pk=report.vm_id, uuid=report.uuid, host__revoked_at=None)
            .first()
        )
        if vm is None or not _acceptable(vm, report, sender):
            log.info("report dropped", vm=report.vm_id, sender=sender, seq=report.seq)
            return
        settled = Action.objects.settled_by("server", vm.pk, report.generation)
        actions = list(settled.with_steps_so_far())
        _note_steps(actions, vm, report)
        _settle_addresses(vm, report)
        _settle(actions, report)
        if vm.deleting and not report.present and report.generation >= vm.generation:
            # Only now, as nothing is left, may its addresses be lent again.
            forget(vm)
            return
        _observe(vm, report)


def host_report(report: HostReport, sender: str) -> None:
    """Record a heartbeat; VMs of a host that was silent are no longer unknown."""
    facts = {
        "boot_id": report.boot_id,
        "agent_version": report.agent_version,
        "network_mode": report.network_mode,
        "cores": report.cores,
        "memory_mb": report.memory_mb,
        "disk_gb": report.disk_gb,
        "disk_free_gb": report.disk_free_gb,
        "accelerator": report.accelerator,
        "accelerator_reason": report.accelerator_reason[:255],
        "leftovers": list(report.leftovers),
        "tunnel_key": report.tunnel_key or "",
        "tunnel_endpoint": report.tunnel_endpoint or "",
        "forward_ip": report.forward_ip,
        "first_forward_port": report.forward_ports[0] if report.forward_ports else 0,
        "last_forward_port": report.forward_ports[1] if report.forward_ports else 0,
        "public_ranges": list(report.public_ranges),
        "cables": report.cables,
        "cable_endpoint": report.cable_endpoint or "",
        "problems": to_builtins(report.problems),
    }
    if report.uplink_ip:
        # A host without an address for a moment must not find it lent to a guest afterwards.
        facts["uplink_ip"] = report.uplink_ip
    heartbeat = Heartbeat(report.host, uuid.UUID(report.host_uuid), facts)
    if note_heartbeat(heartbeat, sender):
        return
    with transaction.atomic(), follow_tunnel(report.host) as change:
        recorded = record_heartbeat(heartbeat, sender)
        if recorded is None:
            return
        host, change.returned = recorded
        if change.returned:
            vms = VM.objects.filter(host=host).select_related("host").order_by("pk")
            own = list(vms.select_for_update(of=("self",)))
            for vm in own:
                set_status(vm)
                vm.next_dispatch_at = timezone.now()
            VM.objects.bulk_update(own, ["status", "next_dispatch_at"])
            plan_copies()


def image_report(report: ImageReport, sender: str) -> None:
    """Record how far a host is with an image.

    The first complete copy makes the image available. Final failures make it unavailable once all
    hosts that speak have one: a single host may lack the file, or lie. While it is tried again,
    what went wrong the last time stays to be seen. The copy of a retired image ends with its files.
    """
    with transaction.atomic():
        copy = (
            ImageCopy.objects.select_for_update(of=("self",))
            .select_related("image", "host")
            .filter(image=report.image_id, host__uuid=report.host_uuid, host__revoked_at=None)
            .first()
        )
        if copy is None or sender != broker_user(copy.host.name):
            log.info("image report dropped", image=report.image_id, sender=sender)
            return
        if report.gone:
            if copy.image.deleted_at is not None:
                copy.delete()
            return
        failure = report.failure
        copy.ready = report.ready
        copy.progress = report.progress
        if failure or report.ready:
            copy.failure_code = failure.code if failure else ""
            copy.failure_message = failure.message if failure else ""
            copy.failure_final = failure is not None and not failure.retryable
        copy.updated = timezone.now()
        copy.save()
        if report.ready:
            image = Image.objects.filter(pk=copy.image_id).exclude(status=Image.Status.AVAILABLE)
            image.update(status=Image.Status.AVAILABLE, problem="")
        elif copy.failure_final:
            _give_up_image(copy)


def _give_up_image(copy: ImageCopy) -> None:
    """The image is unavailable if no host that speaks is left that could still get it."""
    # Of two hosts that fail at once the later one must see what the earlier one wrote.
    images = Image.objects.select_for_update(no_key=True).filter(status=Image.Status.CREATING)
    image = images.filter(pk=copy.image_id).first()
    if image is None:
        return
    failed = ImageCopy.objects.filter(image=image, failure_final=True).values("host")
    speaking = Host.objects.speaking(timezone.now(), settings.HOST_SILENT_SECONDS)
    if not speaking.exclude(pk__in=failed).exists():
        image.status, image.problem = Image.Status.UNAVAILABLE, copy.failure_message
        image.save(update_fields=["status", "problem"])


def _acceptable(vm: VM, report: VmReport, sender: str) -> bool:
    return (
        sender == broker_user(vm.host.name)
        and report.host_uuid == str(vm.host.uuid)
        and (report.seq > vm.observed_seq or _is_final(vm, report))
        and report.generation <= vm.generation
    )


def _is_final(vm: VM, report: VmReport) -> bool:
    """Whether it tells of the end, after which there is nothing: then no order matters.

    A host forgets its count with the VM, and begins one by its clock if it is asked again.
    """
    return vm.deleting and not report.present and report.generation == vm.generation


def _observe(vm: VM, report: VmReport) -> None:
    current = report.generation == vm.generation
    failure = report.failure if current else None
    vm.observed_generation = report.generation
    vm.observed_seq = report.seq
    vm.observed_power = report.power
    vm.observed_at = timezone.now()
    vm.converged = current and report.converged and report.present
    if report.present and report.converged:
        vm.provisioned = True
        vm.applied_generation = report.generation
    if not vm.held_back:  # then they say why
        vm.failure_code = failure.code if failure else ""
        vm.failure_message = failure.message if failure else ""
    vm.failure_final = failure is not None and not failure.retryable
    if vm.converged:
        vm.attempts = 0
        vm.converged_at = vm.observed_at
    if vm.failure_final and not vm.provisioned and not vm.deleting:
        # It could not be made at all: give back what it claimed, half-made helps nobody.
        log.error("server given up", vm=vm.pk, code=vm.failure_code, reason=vm.failure_message)
        with changing(vm, "give_up"):
            unguard(vm)
            abandon(vm)
    elif report.guest_halted and current and vm.goal == PowerGoal.RUNNING:
        # The guest switched itself off: that is the user's wish now, or it would be restarted.
        with changing(vm, "guest_halted"):
            want(vm, PowerGoal.OFF)
    else:
        set_status(vm)
        vm.save()


def _note_steps(actions: list[WithAnnotations[Action, SoFar]], vm: VM, report: VmReport) -> None:
    """Add what the host did to the Actions of the request that it did it for."""
    if report.cause is None:
        return
    its_own = [
        action
        for action in actions
        if action.generation == report.generation and action.request_id == report.cause.request_id
    ]
    steps.arrived(its_own, report.accepted_at)
    steps.record(its_own, vm.host.name, report.steps)
    for step in report.steps:
        observe_step(step.name, step.seconds)


def _settle(actions: Iterable[Action], report: VmReport) -> None:
    now = timezone.now()
    for action in actions:
        if action.status != Action.Status.RUNNING:
            continue
        outcome = outcome_of(ActionGoal(action.goal), action.generation, report)
        if outcome and not (outcome is SUCCESS and is_moving(action)):
            end_action(action, now, code=outcome.code, message=outcome.message)


def _settle_addresses(vm: VM, report: VmReport) -> None:
    """Note what the host let go of, and what it saw at the interfaces."""
    if report.present and report.converged:
        finish_moves(withdrawn(vm.pk, report.generation, timezone.now()))
        ports.let_go(vm.pk, report.generation)
    nics = {nic.index: nic for nic in vm.nics.all()} if report.nics else {}
    for seen in report.nics:
        nic = nics.get(seen.index)
        facts = {"learned": list(seen.learned), "dropped": seen.dropped}
        if nic and facts != {"learned": nic.learned, "dropped": nic.dropped}:
            Nic.objects.filter(pk=nic.pk).update(**facts)
