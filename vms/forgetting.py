"""A server ends: nothing of it is left on its host, so what it had may be lent to others."""

from __future__ import annotations

import structlog

from cloud.audit import changing
from vms.attachments import set_free
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
        let_go_of = set_free(vm)
    finish_moves(let_go_of)
    replicate(networks)
