"""What a server waits for or fails at, and what to do next, in words."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.utils.html import format_html

from cloud.admin.display import Tone, ago, code, link
from cloud.admin.page import Callout
from vms.models import VM, ImageCopy

# A host that speaks confirms within this time; longer is worth a word.
_PATIENCE = timedelta(seconds=20)


def callouts(vm: VM, now: datetime) -> list[Callout]:
    """Everything about the server that a person should know first; empty if all is well."""
    found = []
    silent = vm.host.is_silent(now, settings.HOST_SILENT_SECONDS)
    if silent:
        found.append(_silence(vm))
    if vm.failure_code:
        found.append(_failure(vm))
    elif not silent and _behind(vm) and now - vm.goal_since > _PATIENCE:
        found.append(_waiting(vm))
    if vm.deleting and not silent:
        text = "Its address stays with it until its host has proved that nothing is left."
        found.append(Callout(Tone.BUSY, "Being deleted", text))
    return found


def _behind(vm: VM) -> bool:
    return vm.observed_generation < vm.generation or not vm.converged


def _silence(vm: VM) -> Callout:
    heard = ago(vm.host.last_heartbeat) if vm.host.last_heartbeat else "never"
    meaning = (
        "It stays in deletion, and keeps its address, until the host can prove that it is gone."
        if vm.deleting
        else "It probably goes on as before; nothing is restarted or taken away meanwhile."
    )
    text = format_html(
        "{} was last heard {}. {} Look at the host, its network and its agent.",
        link(vm.host),
        heard,
        meaning,
    )
    return Callout(Tone.UNSURE, "Its host does not speak", text)


def _failure(vm: VM) -> Callout:
    if vm.failure_final:
        onward = (
            "It could not be made at all, so what it had claimed is given back."
            if not vm.provisioned
            else "It is not tried again by itself: when the reason is gone, use Power on."
        )
    else:
        onward = format_html(
            "It is tried again by itself, next {} (attempt {}).",
            ago(vm.next_dispatch_at),
            vm.attempts + 1,
        )
    text = format_html("{} {} {}", vm.failure_message, onward, code(vm.failure_code))
    title = "Its host could not do this" if vm.failure_final else "Its host has trouble with this"
    return Callout(Tone.BAD if vm.failure_final else Tone.WARN, title, text)


def _waiting(vm: VM) -> Callout:
    copy = ImageCopy.objects.filter(image=vm.image_id, host=vm.host_id).first()
    if not vm.provisioned and copy is not None and not copy.ready:
        text = f"{vm.host} is fetching the image {vm.image} ({copy.progress} %)."
        return Callout(Tone.BUSY, "Waiting for its image", text)
    waiting = format_html(
        "Generation {} was asked for {}, the host confirmed {}. The request is repeated {}.",
        vm.generation,
        ago(vm.goal_since),
        vm.observed_generation or "nothing yet",
        ago(vm.next_dispatch_at),
    )
    return Callout(Tone.WARN, "Waiting for its host", waiting)
