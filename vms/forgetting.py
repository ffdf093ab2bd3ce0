"""A server ends: nothing of it is left on its host, so what it had may be lent to others."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime

import structlog
from django.utils import timezone

from cloud.audit import changing
from networks.allocation import give_back, withdrawn
from networks.ledger import pass_to
from networks.models import Address, PrimaryIp
from networks.public_ips import locked
from vms.floating_ips import finish_moves
from vms.models import VM
from vms.private.replication import replicate

log = structlog.get_logger(__name__)


def forget(vm: VM) -> None:
    """Delete its row and free its addresses. Call with the row locked.

    Only on the word of its host, or of an operator who knows that the host itself is gone.
    """
    log.info("server gone", vm=vm.pk, name=vm.name)
    networks = [nic.network_id for nic in vm.nics.all() if nic.network_id]
    with changing(vm, "gone"):
        let_go_of = _set_free(vm)
    finish_moves(let_go_of)
    replicate(networks)


def _set_free(vm: VM) -> set[int]:
    """Answers the addresses that it had been told to let go of before."""
    now = timezone.now()
    primary = [locked(ip) for nic in vm.nics.all() for ip in nic.primary_ips]
    number = vm.pk
    with ExitStack() as recorded:
        for ip in primary:
            verb = "delete" if ip.auto_delete else "unassign"
            recorded.enter_context(changing(ip, verb))
        vm.delete()
        for ip in primary:
            _outlive_server(ip, now)
    return withdrawn(number, None, now)


def _outlive_server(ip: PrimaryIp, now: datetime) -> None:
    if ip.auto_delete:
        ip.delete()
        give_back(ip.address, now)
    else:
        ip.forget_nic()
        Address.objects.filter(pk=ip.address_id).update(state=Address.State.HELD)
        pass_to(ip, None)
