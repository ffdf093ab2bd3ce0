"""Documents from control come in: store them, then converge. What is out of date is dropped."""

from __future__ import annotations

import time

import structlog

from vms.host import images, store
from vms.host.converge import Send, converge, gone
from vms.host.host import Host
from vms.spec import Failure, ImageFetch, Power, VmRemoval, VmReport, VmSpec

log = structlog.get_logger(__name__)


def ensure(host: Host, spec: VmSpec, send: Send) -> None:
    """The VM must be as `spec` says. Raises WrongHost or DamagedStore."""
    try:
        store.accept(host, spec)
    except (store.OldGeneration, store.Removed) as error:
        log.info("document dropped", vm=spec.vm_id, code=error.code, reason=error.message)
    except store.ForeignVm as error:
        log.error("document refused", vm=spec.vm_id, code=error.code, reason=error.message)
        send(_refusal(host, spec, error))
    else:
        converge(host, spec.vm_id, send)


def remove(host: Host, removal: VmRemoval, send: Send) -> None:
    """The VM must be gone. Raises WrongHost."""
    try:
        store.accept_removal(host, removal)
    except store.OldGeneration as error:
        log.info("document dropped", vm=removal.vm_id, code=error.code, reason=error.message)
    except store.ForeignVm:
        # What has this number here is another VM and stays; the one that control means is gone.
        send(gone(host, removal))
    else:
        converge(host, removal.vm_id, send)


def fetch(host: Host, request: ImageFetch) -> None:
    """The image must be here. Raises WrongHost."""
    store.check_host(host, request.host_uuid)
    images.want(host, request.image, anew=True)


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
