"""Documents from control come in: store them, then converge. What is out of date is dropped."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import structlog

from cloud import logs
from cloud.shell import CommandError
from cloud.wire import Failure
from networks.host.nics import NetworkRefused
from networks.spec import NetworkRemoval, NetworkSpec
from vms.drift.spec import InventoryRequest, StrayRemoval
from vms.host import (
    bell,
    documents,
    images,
    netstore,
    networks,
    retired,
    room,
    store,
    strays,
    surveyor,
)
from vms.host.converge import Send, converge, gone
from vms.host.host import Host
from vms.host.networks import Tell
from vms.host.observe import guest
from vms.spec import ImageFetch, ImageReport, Power, VmRemoval, VmReport, VmSpec

log = structlog.get_logger(__name__)

TellImage = Callable[[ImageReport], bool]


def ensure(host: Host, spec: VmSpec, send: Send) -> None:
    """The VM must be as `spec` says. Raises WrongHost or DamagedStore."""
    with _about(spec):
        try:
            store.accept(host, spec)
        except (documents.OldGeneration, store.Removed) as error:
            log.info("document dropped", code=error.code, reason=error.message)
            return
        except store.ForeignVm as error:
            log.error("document refused", code=error.code, reason=error.message)
            send(_refusal(host, spec, error))
            return
        except OSError as error:
            send(_not_stored(host, spec, error))
            return
        log.info("document accepted", generation=spec.generation, power=spec.power)
    converge(host, spec.vm_id, send)


def remove(host: Host, removal: VmRemoval, send: Send) -> None:
    """The VM must be gone. Raises WrongHost."""
    with _about(removal):
        try:
            store.accept_removal(host, removal)
        except documents.OldGeneration as error:
            log.info("document dropped", code=error.code, reason=error.message)
            return
        except store.ForeignVm:
            # What has this number here is another VM and stays; the one that control means is gone.
            send(gone(host, removal))
            return
        except OSError as error:
            send(_not_stored(host, removal, error))
            return
        log.info("document accepted", generation=removal.generation, power="gone")
    converge(host, removal.vm_id, send)


def fetch(host: Host, request: ImageFetch, tell: TellImage) -> None:
    """The image must be here, or it is retired and must go. Raises WrongHost."""
    documents.check_host(host.uuid, request.host_uuid)
    if not request.gone:
        images.want(host, request.image, anew=True)
    elif retired.remove(host, request):
        image = request.image
        tell(ImageReport(host.uuid, image.image_id, image.disk.sha256, False, 0, gone=True))


def network(host: Host, document: NetworkSpec | NetworkRemoval, send: Tell, send_vm: Send) -> None:
    """The private network must be as the document says. Raises WrongHost or DamagedStore."""
    documents.check_host(host.uuid, document.host_uuid)
    network_id, cause = document.network_id, document.cause
    with logs.bound(network=network_id, action_id=cause.action_id if cause else None):
        try:
            netstore.accept(host.paths, document)
        except documents.OldGeneration as error:
            log.info("document dropped", code=error.code, reason=error.message)
            return
        log.info("document accepted", generation=document.generation)
        report = networks.converge(host, network_id)
        # None: it was removed, and somebody else told control meanwhile.
        if report and send(report):
            networks.settle(host, report)
        if report and report.failure:
            bell.ring(host.paths, f"{bell.NETWORK}{network_id}")
    # What a network says about its members is a part of what their NICs are made from.
    for vm_id in networks.members(host, network_id):
        converge(host, vm_id, send_vm, insist=False)


def look(host: Host, request: InventoryRequest, tell: surveyor.Tell) -> None:
    """Control wants to know what is here now. Raises WrongHost or DamagedStore."""
    documents.check_host(host.uuid, request.host_uuid)
    surveyor.tell(host, tell, request)


def remove_strays(host: Host, removal: StrayRemoval, tell: surveyor.Tell) -> None:
    """What no document names and is proven to be ours must go. Raises WrongHost or DamagedStore."""
    try:
        strays.remove(host, removal)
    except (NetworkRefused, CommandError) as error:
        log.warning("strays not removed", reason=str(error))
    surveyor.tell(host, tell)


def _about(document: VmSpec | VmRemoval) -> AbstractContextManager[None]:
    cause = document.cause
    return logs.bound(vm=document.vm_id, action_id=cause.action_id if cause else None)


def _not_stored(host: Host, document: VmSpec | VmRemoval, error: OSError) -> VmReport:
    """Why nothing follows from the document. What is there goes on; control sends it again."""
    failure = room.failure("store the server's document", error)
    log.error("document not stored", code=failure.code, reason=failure.message)
    paths = host.paths.vm(document.vm_id)
    return VmReport(
        vm_id=document.vm_id,
        uuid=document.uuid,
        host_uuid=host.uuid,
        generation=document.generation,
        seq=store.memory(paths).next_seq(time.time()),
        present=True,
        power=guest(document.uuid, paths).power,
        converged=False,
        boot_id=host.boot_id,
        at=time.time(),
        failure=failure,
    )


def _refusal(host: Host, spec: VmSpec, error: documents.Refused) -> VmReport:
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
