"""Messages that nobody could take: write them down, end what waits for them, ask again.

`cloud.deadqueue` reads them. A message is a hint, so nothing is lost with one; but who waits for
its Action hears at once, and not only at the deadline, that it cannot be done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from msgspec import Struct

from cloud import requestid
from cloud.actions import end_action
from cloud.broker import host_of
from cloud.deadqueue import DeadMessage
from cloud.errors import Conflict
from cloud.metrics import DEAD_LETTERS
from cloud.models import Action, DeadLetter
from cloud.poison import document_of, unfit
from cloud.querysets import ActionQuerySet
from cloud.redaction import excerpt
from cloud.wire import MalformedDocument, Refusal, convert, decode
from networks.models import Replica
from networks.spec import NetworkRemoval, NetworkReport, NetworkSpec
from vms import dispatch
from vms.drift.spec import HostInventory, InventoryRequest, StrayRemoval
from vms.models import VM, ImageCopy
from vms.spec import (
    HostReport,
    ImageFetch,
    ImageReport,
    UnchangedReport,
    UsageReport,
    VmRemoval,
    VmReport,
    VmSpec,
)

log = structlog.get_logger(__name__)

# How many letters are kept, of one host so few that it displaces nobody else's, and for how long
# after the last of their kind.
MOST_LETTERS: Final = 2000
MOST_LETTERS_OF_A_HOST: Final = 200
KEEP_LETTERS: Final = timedelta(days=30)
_MOST_EXPLANATION = 2000

DOCUMENTS: Final[Mapping[str, type[Struct]]] = {
    "vms.ensure": VmSpec,
    "vms.remove": VmRemoval,
    "images.fetch": ImageFetch,
    "networks.ensure": NetworkSpec,
    "networks.remove": NetworkRemoval,
    "reports.vm": VmReport,
    "reports.unchanged": UnchangedReport,
    "reports.host": HostReport,
    "reports.image": ImageReport,
    "reports.usage": UsageReport,
    "reports.network": NetworkReport,
    "reports.inventory": HostInventory,
    "reports.refused": Refusal,
    "hosts.look": InventoryRequest,
    "strays.remove": StrayRemoval,
}
_REASONS = set(DeadLetter.Reason.values)


@dataclass(frozen=True)
class Reference:
    """What a document is about, as far as it can be read: kind, number, generation."""

    kind: str = ""
    id: int | None = None
    generation: int | None = None


def keep(dead: DeadMessage) -> DeadLetter | None:
    """Write the message down and end the Actions that wait for it.

    None: nobody took it in time, and it is sent again, by its next run or by the sweep.
    """
    if dead.reason == "expired":
        return None
    letter = _letter(dead)
    DEAD_LETTERS.labels(letter.queue.partition(".")[0], letter.reason).inc()
    with transaction.atomic():
        letter.actions = _end_actions(letter)
        stored = _store(letter)
        DeadLetter.objects.filter(host=stored.host).beyond(MOST_LETTERS_OF_A_HOST).delete()
        DeadLetter.objects.beyond(MOST_LETTERS).delete()
    log.error(
        "message died",
        letter=stored.pk,
        queue=stored.queue,
        reason=stored.explanation,
        task=stored.task,
        resource=f"{stored.resource_type} {stored.resource_id}" if stored.resource_id else None,
    )
    return stored


def can_be_asked_again(letter: DeadLetter) -> bool:
    """Whether it was about something that hosts can be told anew, as it should be by now."""
    return letter.resource_id is not None and letter.resource_type in _AGAIN


def ask_again(letter: DeadLetter) -> None:
    """Tell the host anew, at once or by the next sweep: what should be now, not what was then.

    Raises Conflict if there is nothing to be told any more.
    """
    with transaction.atomic():
        again = _AGAIN.get(letter.resource_type) if letter.resource_id is not None else None
        if again is None or not again(letter):
            raise Conflict(f"what {letter} was about is gone: forget the letter")
        letter.asked_again_at = timezone.now()
        letter.save(update_fields=["asked_again_at"])


def forget(letter: DeadLetter) -> None:
    letter.delete()


def tidy(now: datetime) -> int:
    """Forget old letters."""
    gone: int = DeadLetter.objects.older_than(now - KEEP_LETTERS).delete()[0]
    return gone


def _letter(dead: DeadMessage) -> DeadLetter:
    message = dead.message
    document = document_of(message.body)
    about = _reference(document)
    asked_by = message.headers.get(requestid.HEADER)
    known = isinstance(asked_by, str) and requestid.is_usable(asked_by)
    letter = DeadLetter(
        queue=dead.queue[:128],
        reason=dead.reason if dead.reason in _REASONS else DeadLetter.Reason.UNKNOWN,
        explanation=_clean(_explain(dead, document))[:_MOST_EXPLANATION],
        deliveries=max(0, min(dead.deliveries, 2**31 - 1)),
        task=_clean(message.task)[:128],
        sender=_clean(dead.message.sender)[:128],
        host=_host(dead)[:32],
        resource_type=about.kind,
        resource_id=about.id,
        generation=about.generation,
        request_id=str(asked_by) if known else "",
        bytes=len(message.body),
        excerpt=_clean(excerpt(message.body)),
    )
    alike = (letter.queue, letter.reason, letter.explanation, letter.task, letter.sender)
    same = repr((*alike, letter.resource_type, letter.resource_id))
    letter.digest = hashlib.sha256(same.encode()).hexdigest()
    return letter


def _explain(dead: DeadMessage, document: dict[str, Any]) -> str:
    """What was wrong, by looking at the message as its receiver did."""
    if problem := unfit(dead.message):
        return f"Nobody could take it: {problem}"
    if dead.raised:
        return f"Its task failed: {dead.raised}"
    if expected := DOCUMENTS.get(dead.message.task):
        if not document:
            return "Its arguments are wrong: one document is expected"
        try:
            (convert if expected is Refusal else decode)(document, expected)
        except MalformedDocument as error:
            return error.message
    elif not dead.message.task.startswith("control."):
        return f"No task {dead.message.task!r} is known here: run the same release everywhere"
    if dead.reason == DeadLetter.Reason.DELIVERY_LIMIT:
        return "Whoever took it died of it, each time: see the log of that machine"
    if dead.reason == DeadLetter.Reason.MAXLEN:
        return "Its queue was full: see whether anybody reads it"
    return "Its task failed: see the log of the machine that took it"


def _reference(document: dict[str, Any]) -> Reference:
    image = document.get("image")
    inside = image.get("image_id") if isinstance(image, dict) else None
    candidates = (
        ("server", document.get("vm_id")),
        ("network", document.get("network_id")),
        ("image", document.get("image_id") or inside),
    )
    for kind, value in candidates:
        if (number := _number(value)) is not None:
            return Reference(kind, number, _number(document.get("generation")))
    return Reference()


def _number(value: object) -> int | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53
    return value if fits else None  # type: ignore[return-value]  # an int, if it fits


def _host(dead: DeadMessage) -> str:
    """Whose queue it was in, or who sent it."""
    if dead.queue.startswith("host."):
        return dead.queue.removeprefix("host.").removesuffix(".bulk")
    return host_of(dead.message.sender)


def _clean(text: str) -> str:
    """Without what PostgreSQL stores in no text."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _end_actions(letter: DeadLetter) -> list[int]:
    """End what waits for it. What a host sent ends only what waits for that host."""
    message = (
        f"{letter.explanation}. The message to {letter.host} is kept as a dead letter: mend the"
        " reason, then ask again"
        if letter.queue.startswith("host.")
        else f"{letter.explanation}. What {letter.host or 'a host'} said of it is kept as a dead"
        " letter: run the same release everywhere, then ask again"
    )
    code = "host_failed" if letter.queue.startswith("host.") else "report_failed"
    now = timezone.now()
    waiting = _concerned(letter)
    return [one.pk for one in waiting if end_action(one, now, code=code, message=message)]


def _concerned(letter: DeadLetter) -> ActionQuerySet:
    if not letter.host:
        return Action.objects.none()
    there = VM.objects.filter(host__name=letter.host, host__revoked_at=None).values("pk")
    waiting = Action.objects.open().filter(
        resources__type="server", resources__resource_id__in=there
    )
    if letter.resource_type == "server" and letter.resource_id is not None:
        mine = Action.objects.open().of("server", letter.resource_id)
        found = waiting.filter(pk__in=mine.values("pk"))
        if letter.generation is not None:
            found = found.filter(generation__lte=letter.generation)
        return found.distinct()
    if letter.resource_type == "network" and letter.resource_id is not None:
        about = Action.objects.open().of("network", letter.resource_id)
        return waiting.filter(pk__in=about.values("pk")).distinct()
    if letter.resource_type or not letter.request_id:
        return Action.objects.none()
    return waiting.of_request(letter.request_id).distinct()


def _store(letter: DeadLetter) -> DeadLetter:
    """As a row of its own, or as one more of a letter that is known."""
    known = DeadLetter.objects.select_for_update().filter(digest=letter.digest).first()
    if known is None:
        letter.save()
        return letter
    known.times = F("times") + 1
    known.last_at = letter.last_at
    known.deliveries = letter.deliveries
    known.generation = letter.generation
    known.request_id = letter.request_id
    known.excerpt = letter.excerpt
    known.bytes = letter.bytes
    known.actions = [*known.actions, *letter.actions][-100:]
    known.save()
    known.refresh_from_db()
    return known


def _server_again(letter: DeadLetter) -> bool:
    found = VM.objects.for_spec().filter(pk=letter.resource_id or 0)
    vm = found.select_for_update(of=("self",)).first()
    if vm is None:
        return False
    if vm.held_back:
        raise Conflict(f"server {vm} is held back since the inventory was restored: use it instead")
    vm.attempts, vm.next_dispatch_at = 0, timezone.now()
    vm.save(update_fields=["attempts", "next_dispatch_at"])
    dispatch.on_commit(vm)
    return True


def _network_again(letter: DeadLetter) -> bool:
    rows = Replica.objects.filter(network=letter.resource_id, host__name=letter.host)
    return bool(rows.update(attempts=0, converged=False, next_dispatch_at=timezone.now()))


def _image_again(letter: DeadLetter) -> bool:
    rows = ImageCopy.objects.filter(image=letter.resource_id, host__name=letter.host, ready=False)
    return bool(rows.update(attempts=0, failure_final=False, next_dispatch_at=timezone.now()))


_AGAIN = {"server": _server_again, "network": _network_again, "image": _image_again}
