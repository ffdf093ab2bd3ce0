"""Hosts enter the mesh, move in it, and are cut off: their peers hear of it at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from django.db import transaction
from django.utils import timezone

from cloud.hosts import forget_broker_user, revoke_host
from cloud.models import Host
from vms.private.documents import networks_of
from vms.private.replication import replicate
from vms.restored.belief import forget

log = structlog.get_logger(__name__)

# What other hosts are told of a host.
_TOLD = (
    *("uuid", "tunnel_key", "tunnel_endpoint", "tunnel_ip", "network_mode", "revoked_at"),
    *("cables", "cable_endpoint"),
)


@dataclass
class TunnelChange:
    """Set `returned` if the host had been silent, or revoked."""

    returned: bool = False


@contextmanager
def follow_tunnel(host_name: str) -> Iterator[TunnelChange]:
    """Tell the hosts that share a network with this one if the block changes how they reach it.

    Call within the transaction of the block.
    """
    rows = Host.objects.filter(name=host_name)
    before = rows.values(*_TOLD).first()
    change = TunnelChange()
    yield change
    host = rows.first()
    if host and (change.returned or rows.values(*_TOLD).first() != before):
        replicate(networks_of(host))


def cut_off(host: Host) -> None:
    """No other host talks to this one any more, and the broker does not either.

    Its peers are told on commit, before the broker's administration is asked, which may fail: then
    repeat it. Raises BrokerRefused.
    """
    with transaction.atomic():
        host = Host.objects.select_for_update(no_key=True).get(pk=host.pk)
        revoke_host(host)
        forget(host, timezone.now())
        replicate(networks_of(host))
    log.warning("host revoked", host=host.name)
    forget_broker_user(host)
