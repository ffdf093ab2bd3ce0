"""Bring private networks to the hosts that have members, and away from those that have none.

`replicate` belongs into every transaction that changes what hosts must know. It compares whole
documents, so it may be called too often, and only hosts whose document changed are told. The
messages leave on commit and are hints; `sweep` is the guarantee.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from msgspec import structs

from cloud import requestid
from cloud.celery import hint
from cloud.models import Host
from cloud.patience import HINT_PATIENCE, backoff
from cloud.wire import Cause, encode
from networks.models import PrivateNetwork, Replica
from networks.private.querysets import ReplicaQuerySet
from networks.spec import NetworkRemoval, NetworkSpec
from vms.private.documents import digest_of, documents_of
from vms.private.stars import badly_wired, rewire, unwired

log = structlog.get_logger(__name__)

# Networks that one sweep looks at.
BATCH = 50

Message = tuple[Replica, NetworkSpec | NetworkRemoval]


def replicate(network_ids: Iterable[int]) -> None:
    """Tell hosts what changed for them in these networks, after the commit.

    Locks the networks; `cloud.locks` tells when.
    """
    networks = PrivateNetwork.objects.filter(pk__in=set(network_ids)).order_by("pk")
    messages = [
        message
        for network in networks.select_for_update(of=("self",), no_key=True)
        for message in _refresh(network, timezone.now())
    ]
    _send_on_commit(messages)


def dispatch_due(now: datetime, observed_before: datetime) -> int:
    """Send again what speaking hosts have not confirmed, with a back-off in the row.

    What they should know is made anew, so whatever was missed before is mended too.
    """
    deaf = Host.objects.deaf(now, settings.HOST_SILENT_SECONDS).numbers()
    due = Replica.objects.due(now, observed_before).exclude(host__in=deaf)
    return _tell_again(due.values_list("network", flat=True), due, now)


def tell_again(network_id: int, host: Host) -> int:
    """Send a host its document of a network again, though it has confirmed it."""
    replica = Replica.objects.filter(network=network_id, host=host, wanted=True)
    return _tell_again(replica.values_list("network", flat=True), replica, timezone.now())


def rewire_due(now: datetime) -> int:
    """Tell of another hub where the one of a network's cables fell silent or a better one came."""
    return _tell_again(badly_wired(now).values_list("pk", flat=True), Replica.objects.none(), now)


def wire_due(now: datetime) -> int:
    """Tell of a hub where there was none that a network's cables could be laid to."""
    return _tell_again(unwired(now).values_list("pk", flat=True), Replica.objects.none(), now)


def _tell_again(network_ids: QuerySet[Any, int], due: ReplicaQuerySet, now: datetime) -> int:
    """Tell what is new in these networks, and the replicas that are due in any case."""
    wanted = set(network_ids[:BATCH])
    sent = 0
    if not wanted:
        return sent
    with transaction.atomic():
        networks = PrivateNetwork.objects.filter(pk__in=wanted).order_by("pk")
        for network in networks.select_for_update(of=("self",), no_key=True, skip_locked=True):
            ids = set(due.filter(network=network).values_list("pk", flat=True))
            messages = _refresh(network, now, ids)
            _send_on_commit(messages)
            sent += len(messages)
    return sent


def forget_deleted() -> int:
    """Deleted networks end when every host proved that nothing of them is left."""
    gone, _ = PrivateNetwork.objects.provably_gone().delete()
    return gone


def _refresh(network: PrivateNetwork, now: datetime, again: Collection[int] = ()) -> list[Message]:
    """Write what hosts must know now; answers what to tell: news, and the replicas `again`.

    Call with the network locked.
    """
    rewire(network, now)
    documents = documents_of(network, now)
    rows = network.replicas.select_related("host").order_by("pk")
    known = {row.host_id: row for row in rows.select_for_update(of=("self",))}
    hosts = Host.objects.in_bulk(documents.keys() - known.keys())
    fresh = [Replica(network=network, host=host) for host in hosts.values()]
    changed = []
    for replica in (*known.values(), *fresh):
        document = documents.get(replica.host_id)
        if _renew(replica, document, now):
            changed.append(replica)
        elif replica.pk in again:
            replica.attempts += 1
            replica.next_dispatch_at = now + backoff(replica.attempts)
            changed.append(replica)
    Replica.objects.bulk_create(replica for replica in changed if replica.pk is None)
    Replica.objects.bulk_update(
        [replica for replica in changed if replica.host_id in known], _DESIRED_FIELDS
    )
    return [(replica, _message(replica, documents)) for replica in changed]


_DESIRED_FIELDS = (
    "wanted",
    "generation",
    "digest",
    "request_id",
    "converged",
    "failure_code",
    "failure_message",
    "attempts",
    "next_dispatch_at",
)


def _renew(replica: Replica, document: NetworkSpec | None, now: datetime) -> bool:
    """Raise the replica's generation if its host must know something else than before."""
    digest = digest_of(document) if document else ""
    if replica.generation and digest == replica.digest:
        return False
    replica.wanted = document is not None
    replica.digest = digest
    replica.generation += 1
    replica.request_id = requestid.now()
    replica.converged = False
    replica.failure_code = replica.failure_message = ""
    replica.attempts = 0
    replica.next_dispatch_at = now + HINT_PATIENCE
    return True


def _message(
    replica: Replica, documents: Mapping[int, NetworkSpec]
) -> NetworkSpec | NetworkRemoval:
    cause = Cause(replica.request_id) if replica.request_id else None
    document = documents.get(replica.host_id)
    if document is None:
        return NetworkRemoval(
            network_id=replica.network_id,
            host_uuid=str(replica.host.uuid),
            generation=replica.generation,
            cause=cause,
        )
    return structs.replace(document, generation=replica.generation, cause=cause)


def _send_on_commit(messages: list[Message]) -> None:
    if messages:
        transaction.on_commit(partial(_send, messages))


def _send(messages: list[Message]) -> None:
    """Stops at the first message that the broker does not take: the sweep will send the rest."""
    for replica, document in messages:
        # What is not carried out yet goes under the id of the request that asked for it.
        asked = "" if replica.converged else replica.request_id
        with requestid.bound(asked or requestid.now()):
            if not _hint(replica, document):
                return


def _hint(replica: Replica, document: NetworkSpec | NetworkRemoval) -> bool:
    gone = isinstance(document, NetworkRemoval)
    if _might_be_in_use(replica, gone=gone):
        return True
    return hint(
        replica.host.queue,
        "networks.remove" if gone else "networks.ensure",
        encode(document),
        summary=f"network #{replica.network_id}: {'gone' if gone else 'there'},"
        f" generation {replica.generation}",
    )


def _might_be_in_use(replica: Replica, *, gone: bool) -> bool:
    """Whether a host has not said yet what it has since the inventory was restored, or has a server
    in the network that the inventory does not know: what it runs is not taken apart.
    """
    host = replica.host
    if host.unverified_since:
        return True
    return gone and host.holdings.in_network(replica.network_id).exists()
