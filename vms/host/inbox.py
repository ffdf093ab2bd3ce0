"""Documents from control come in: store them, then converge. What is out of date is dropped."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

import structlog

from cloud import logs
from cloud.wire import Failure
from vms.host import images, store
from vms.host.converge import Send, converge, gone
from vms.host.host import Host
from vms.spec import ImageFetch, Power, VmRemoval, VmReport, VmSpec

log = structlog.get_logger(__name__)


def ensure(host: Host, spec: VmSpec, send: Send) -> None:
    """The VM must be as `spec` says. Raises WrongHost or DamagedStore."""
    with _about(spec):
        try:
            store.accept(host, spec)
        except (store.OldGeneration, store.Removed) as error:
            log.info("document dropped", code=error.code, reason=error.message)
            return
        except store.ForeignVm as error:
            log.error("document refused", code=error.code, reason=error.message)
            send(_refusal(host, spec, error))
            return
        log.info("document accepted", generation=spec.generation, power=spec.power)
    converge(host, spec.vm_id, send)


def remove(host: Host, removal: VmRemoval, send: Send) -> None:
    """The VM must be gone. Raises WrongHost."""
    with _about(removal):
        try:
            store.accept_removal(host, removal)
        except store.OldGeneration as error:
            log.info("document dropped", code=error.code, reason=error.message)
            return
        except store.ForeignVm:
            # What has this number here is another VM and stays; the one that control means is gone.
            send(gone(host, removal))
            return
        log.info("document accepted", generation=removal.generation, power="gone")
    converge(host, removal.vm_id, send)


def fetch(host: Host, request: ImageFetch) -> None:
    """The image must be here. Raises WrongHost."""
    store.check_host(host, request.host_uuid)
    images.want(host, request.image, anew=True)


def _about(document: VmSpec | VmRemoval) -> AbstractContextManager[None]:
    cause = document.cause
    return logs.bound(vm=document.vm_id, action_id=cause.action_id if cause else None)


def _refusal(host: Host, spec: VmSpec, error: store.Refused) -> VmReport:
    return VmReport(
        vm_id=spec.vm_id,
        uuid=spec.uuid,
        host_uuid=host.uuid,
        generation=spec.generation,
        seq=int(time.time() * 1000),
        present=False,
        power=Power.OFF,
        converged=False,
        boot_id=host.boot_id,
        at=time.time(),
        failure=Failure(error.code, error.message, error.retryable),
    )
