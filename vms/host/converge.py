"""One VM becomes what its document says: observe, plan, take the steps, report what is then seen.

Whoever has a reason calls `converge`: a message came, QEMU said something, time has passed. Only
one caller works on a VM; the others leave a mark and go, and the one that works goes round
again. So no wish is lost and no thread waits for another.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import structlog
from msgspec import structs

from cloud.errors import CumuletError
from vms.host import bell, files, images, store
from vms.host.host import Host
from vms.host.memory import VmMemory
from vms.host.observe import observe
from vms.host.paths import VmPaths
from vms.host.plan import Guest, Observed, plan
from vms.host.removal import remove
from vms.host.steps import Steps
from vms.spec import Failure, Power, PowerGoal, VmRemoval, VmReport, VmSpec

log = structlog.get_logger(__name__)

# Takes a report to control; answers whether it is on its way.
Send = Callable[[VmReport], bool]

_SILENT = "QEMU runs and does not answer: look at the host's load and storage; it is asked again"


def converge(host: Host, vm_id: int, send: Send, *, insist: bool = True) -> None:
    """Bring the VM to its document and report; returns at once if somebody else is at it.

    `insist` off: report only what control has not been told yet. Raises DamagedStore.
    """
    paths = host.paths.vm(vm_id)
    paths.kick.touch()
    while paths.kick.exists():
        with files.locked(paths.lock, wait=False) as mine:
            if not mine:
                return
            paths.kick.unlink(missing_ok=True)
            report = _round(host, paths, insist=insist)
            if report is None and not paths.state.exists():
                paths.unsent.unlink(missing_ok=True)
                paths.lock.unlink()
        if report:
            _tell(host, report, send)
        insist = False
    bell.ring(host.paths, vm_id)


def _round(host: Host, paths: VmPaths, *, insist: bool) -> VmReport | None:
    """One look at the VM and what follows from it; the report that is due, if one is."""
    wanted = store.wanted(paths)
    if wanted is None:
        return None
    memory = store.memory(paths)
    if isinstance(wanted, VmSpec):
        report, after = _bring(host, wanted, memory)
    else:
        report, after = _remove(host, wanted, paths), memory
    if insist or paths.unsent.exists() or not _same(report, memory.told):
        # Larger than any before, even if what was remembered is lost.
        report = structs.replace(report, seq=max(memory.seq + 1, int(time.time() * 1000)))
        store.remember(paths, structs.replace(after, seq=report.seq, told=report))
        return report
    if after != memory:
        store.remember(paths, after)
    return None


def _bring(host: Host, spec: VmSpec, memory: VmMemory) -> tuple[VmReport, VmMemory]:
    paths = host.paths.vm(spec.vm_id)
    seen, now = observe(host, spec, paths), time.time()
    todo = plan(spec, memory, seen, now)
    steps = Steps(host, spec, memory)
    failure = None
    for step in todo.steps:
        failure = _attempt(str(step), partial(steps.take, step), spec.vm_id)
        if failure:
            break
    if todo.steps:
        seen = observe(host, spec, paths)
    if seen.guest is Guest.SILENT and failure is None:
        failure = Failure("qmp_silent", _SILENT, retryable=True)
    rest = plan(spec, steps.memory, seen, now)
    memory = steps.memory
    if seen.guest is Guest.RUNNING and rest.done and spec.power is PowerGoal.RUNNING:
        memory = memory.serving(spec)
    report = VmReport(
        vm_id=spec.vm_id,
        uuid=spec.uuid,
        host_uuid=host.uuid,
        generation=spec.generation,
        seq=0,
        present=True,
        power=seen.guest.power,
        converged=failure is None and rest.done and not rest.steps,
        boot_id=host.boot_id,
        at=now,
        guest_halted=spec.power is PowerGoal.RUNNING and _halted(spec, memory, seen),
        button_pressed=memory.pressed == spec.generation,
        failure=failure,
    )
    return report, memory


def _halted(spec: VmSpec, memory: VmMemory, seen: Observed) -> bool:
    return seen.guest is Guest.ABSENT and memory.halted == spec.generation


def _remove(host: Host, removal: VmRemoval, paths: VmPaths) -> VmReport:
    failure = _attempt("remove", partial(remove, host, removal, paths), removal.vm_id)
    return gone(host, removal, failure)


def gone(host: Host, removal: VmRemoval, failure: Failure | None = None) -> VmReport:
    """The report of a VM that is not here any more, or that would not go."""
    return VmReport(
        vm_id=removal.vm_id,
        uuid=removal.uuid,
        host_uuid=host.uuid,
        generation=removal.generation,
        seq=int(time.time() * 1000),
        present=failure is not None,
        power=Power.UNKNOWN if failure else Power.OFF,
        converged=failure is None,
        boot_id=host.boot_id,
        at=time.time(),
        failure=failure,
    )


def _attempt(step: str, act: Callable[[], None], vm_id: int) -> Failure | None:
    try:
        act()
    except images.ImageUnusable as error:
        failure = structs.replace(error.failure, step=step)
    except CumuletError as error:
        failure = Failure(error.code, error.message, error.retryable, step)
    except OSError as error:
        failure = Failure("host_io_failed", f"the host could not {step}: {error}", True, step)
    else:
        return None
    log.warning("step failed", vm=vm_id, step=step, code=failure.code, reason=failure.message)
    return failure


def _same(report: VmReport, told: VmReport | None) -> bool:
    """Whether control knows all this already."""
    return told is not None and structs.replace(report, seq=told.seq, at=told.at) == told


def _tell(host: Host, report: VmReport, send: Send) -> None:
    """Outside of the lock: a broker that hangs holds up nobody."""
    paths = host.paths.vm(report.vm_id)
    if not send(report):
        paths.unsent.touch()  # the monitor tells what is seen once the broker is back
        return
    paths.unsent.unlink(missing_ok=True)
    if not report.present:
        with files.locked(paths.lock):
            store.forget(paths)
            paths.lock.unlink()
