"""Ask hosts to look, and heal what is safe to heal. Every effect is a typed document to a host.

What would be done stands in the row since it was seen last (`vms.drift.treatment`), so that a
person reads it first; only rows that stand when it is done are acted on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from cloud.audit import changing, write
from cloud.celery import hint
from cloud.drift import Drift
from cloud.errors import Conflict
from cloud.models import Host
from cloud.wire import encode
from networks.spec import NetworkRemoval
from vms import dispatch
from vms.drift.spec import MOST_STRAYS, InventoryRequest, Kind, StrayRemoval, StraySpec
from vms.drift.things import ANSWER
from vms.drift.treatment import Verb
from vms.models import VM
from vms.private import replication
from vms.spec import VmRemoval

log = structlog.get_logger(__name__)

_KIND: dict[str, Literal["interface", "rules", "answer"]] = {
    Kind.TAP: "interface",
    Kind.RULES: "rules",
    Kind.ADDRESS: "answer",
}


@dataclass(frozen=True)
class Order:
    """One thing to do on a host, for these rows. `target`: a server or network, by the verb."""

    host: Host
    verb: Verb
    target: int
    rows: tuple[Drift, ...]

    def __str__(self) -> str:
        return f"{self.host}: {_WORDS[self.verb].format(self.target)}"


_WORDS = {
    Verb.SEND_SERVER: "send the document of server #{} again",
    Verb.SEND_NETWORK: "send the document of network #{} again",
    Verb.REMOVE_SERVER: "remove what is left of the deleted server #{}",
    Verb.REMOVE_NETWORK: "remove what is left of the deleted network #{}",
    Verb.REMOVE_STRAY: "have the host remove what it proves to be its own",
}


def ask_to_look(hosts: Iterable[Host]) -> list[Host]:
    """Have hosts tell what they have now; answers those that the message is on its way to."""
    return [host for host in hosts if host.uuid and _ask(host)]


def plan(rows: Iterable[Drift]) -> list[Order]:
    """What a repair of these rows would do, each thing once; not what must be seen again first."""
    grouped: dict[tuple[int, Verb, int], list[Drift]] = {}
    for row in rows:
        verb = Verb(row.verb)
        if verb.repairs and (row.confirmed or not verb.removes):
            grouped.setdefault((row.host_id, verb, _target(row, verb)), []).append(row)
    return [
        Order(found[0].host, verb, target, tuple(found))
        for (_, verb, target), found in sorted(grouped.items())
    ]


def carry_out(orders: Iterable[Order]) -> int:
    """Do it; answers how many documents are on their way.

    Hosts that are silent are left alone, and those of which it is not known yet what they have
    since the inventory was restored: what was seen of them is of before.
    """
    obeying = Host.objects.obeying(timezone.now(), settings.HOST_SILENT_SECONDS)
    there = set(obeying.values_list("pk", flat=True))
    return sum(_do(order) for order in orders if order.host.pk in there)


def repair(row: Drift) -> str:
    """Heal one difference, and others by the same document. Raises Conflict if it must not be."""
    now = Drift.objects.select_related("host").filter(pk=row.pk).first()
    if now is None or now.closed_at:
        return "It has vanished by itself."
    verb = Verb(now.verb)
    if not verb.repairs:
        raise Conflict(f"nothing safe can be done: {now.reason}")
    orders = plan([now])
    if not orders:
        raise Conflict("it was seen only once, and may be work under way: try again in a minute")
    if not carry_out(orders):
        raise Conflict(f"host {now.host} does not speak, or the broker is away: try again")
    ask_to_look([now.host])
    return f"On its way to {now.host}: it looks again at once."


def keep(row: Drift) -> None:
    """An operator knows what it is: it is listed no more. Raises Conflict."""
    write(row, {"kept_at": timezone.now()}, "keep")


def watch(row: Drift) -> None:
    """The contrary of `keep`. Raises Conflict."""
    write(row, {"kept_at": None}, "watch")


def _ask(host: Host) -> bool:
    document = InventoryRequest(host_uuid=str(host.uuid))
    return hint(host.queue, "hosts.look", encode(document), summary=f"host {host}: look")


def _target(row: Drift, verb: Verb) -> int:
    match verb:
        case Verb.SEND_SERVER | Verb.REMOVE_SERVER:
            return row.server_id or 0
        case Verb.SEND_NETWORK | Verb.REMOVE_NETWORK:
            return row.network_id or 0
        case _:
            return 0


def _do(order: Order) -> bool:
    sent = {
        Verb.SEND_SERVER: _send_server,
        Verb.SEND_NETWORK: _send_network,
        Verb.REMOVE_SERVER: _remove_server,
        Verb.REMOVE_NETWORK: _remove_network,
        Verb.REMOVE_STRAY: _remove_strays,
    }[order.verb](order)
    log.warning("drift repaired", host=order.host.name, what=str(order), sent=sent)
    if sent:
        # One by one: a report locks all rows of its host, in another order.
        for row in order.rows:
            with transaction.atomic(), changing(row, "repair"):
                row.repaired_at = timezone.now()
                row.save(update_fields=["repaired_at"])
    return sent


def _send_server(order: Order) -> bool:
    # One that is held back after a restore is sent once a user asks for something.
    there = VM.objects.for_spec().filter(host=order.host, deleting=False, held_back="")
    vm = there.filter(pk=order.target).first()
    return vm is not None and dispatch.send(vm)


def _send_network(order: Order) -> bool:
    return replication.tell_again(order.target, order.host) > 0


def _remove_server(order: Order) -> bool:
    """Never one that the inventory has by now."""
    row = order.rows[0]
    if row.uuid is None or VM.objects.filter(uuid=row.uuid).exists():
        return False
    removal = VmRemoval(
        vm_id=order.target,
        uuid=str(row.uuid),
        host_uuid=str(order.host.uuid),
        generation=max(row.generation or 1 for row in order.rows),
    )
    summary = f"server #{order.target}: gone, though the inventory has it no more"
    return hint(order.host.queue, "vms.remove", encode(removal), summary=summary)


def _remove_network(order: Order) -> bool:
    generation = max(row.generation or 1 for row in order.rows)
    removal = NetworkRemoval(order.target, str(order.host.uuid), generation)
    summary = f"network #{order.target}: gone, though the inventory has it no more"
    return hint(order.host.queue, "networks.remove", encode(removal), summary=summary)


def _remove_strays(order: Order) -> bool:
    strays = [
        StraySpec(_KIND[row.kind], row.name.removeprefix(ANSWER))
        for row in order.rows[:MOST_STRAYS]
    ]
    removal = StrayRemoval(str(order.host.uuid), tuple(strays))
    summary = f"host {order.host}: {len(strays)} strays"
    return hint(order.host.queue, "strays.remove", encode(removal), summary=summary)
