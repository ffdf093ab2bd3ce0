"""One VM becomes what its document says: observe, plan, take the steps, report what is then seen.

Whoever has a reason calls `converge`: a message came, QEMU said something, time has passed. Only
one caller works on a VM; the others leave a mark and go, and the one that works goes round
again. So no wish is lost and no thread waits for another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from msgspec import structs

from cloud import files, logs, requestid
from cloud.wire import Cause, Failure, StepReport
from vms.host import bell, course, networks, qemulog, store
from vms.host.host import Host
from vms.host.memory import VmMemory
from vms.host.observe import nic_reports, observe
from vms.host.paths import VmPaths
from vms.host.plan import Guest, Observed, plan
from vms.host.removal import steps as removal_steps
from vms.host.steps import Steps, attempt
from vms.spec import Power, PowerGoal, SeenVm, VmRemoval, VmReport, VmSpec

log = structlog.get_logger(__name__)

# Takes a report to control; answers whether it is on its way.
Send = Callable[[VmReport], bool]

_SILENT = "QEMU runs and does not answer: look at the host's load and storage; it is asked again"


def converge(
    host: Host, vm_id: int, send: Send, *, insist: bool = True, counters: bool = False
) -> bool:
    """Bring the VM to its document and report; at once False if somebody else is at it.

    `insist` off: report only what control has not been told yet; `counters`: that one grew is
    news too. Raises DamagedStore.
    """
    paths = host.paths.vm(vm_id)
    paths.kick.touch()
    with logs.bound(vm=vm_id):
        while paths.kick.exists():
            with files.locked(paths.lock, wait=False) as mine:
                if not mine:
                    return False
                paths.kick.unlink(missing_ok=True)
                report = _round(host, paths, insist=insist, counters=counters)
                if report is None and store.clear_away(paths):
                    paths.unsent.unlink(missing_ok=True)
                    paths.lock.unlink()
            if report:
                with _working_for(report.cause):
                    _tell(host, report, send)
            insist = False
    bell.ring(host.paths, vm_id)
    return True


def _round(host: Host, paths: VmPaths, *, insist: bool, counters: bool) -> VmReport | None:
    """One look at the VM and what follows from it; the report that is due, if one is."""
    wanted = store.wanted(paths)
    if wanted is None:
        return None
    before = store.memory(paths, wanted)
    memory = _heard(before, wanted.generation, delivered=not paths.unsent.exists())
    cause = _cause(wanted, memory)
    with _working_for(cause):
        memory = _pass_on(paths, memory)
        if isinstance(wanted, VmSpec):
            report, after = _bring(host, wanted, memory)
        else:
            report, after = _remove(host, wanted, memory)
        after = _pass_on(paths, after)
    accepted = store.accepted_at(paths)
    report = structs.replace(report, accepted_at=accepted, steps=after.steps, cause=cause)
    if insist or paths.unsent.exists() or _has_news(report, memory.told, counters=counters):
        report = structs.replace(report, seq=memory.next_seq(time.time()))
        paths.unsent.touch()  # before it counts as told: a crash from here on loses no report
        _remember(paths, structs.replace(after, seq=report.seq, told=report))
        return report
    if after != before:
        _remember(paths, after)
    return None


def _remember(paths: VmPaths, memory: VmMemory) -> None:
    """Without room for it control hears all the same, and again until there is."""
    try:
        store.remember(paths, memory)
    except OSError as error:
        log.warning("not remembered", reason=str(error))


def _heard(memory: VmMemory, generation: int, *, delivered: bool) -> VmMemory:
    """What follows from control having got the last report, or from a new document."""
    told = memory.told
    if told is None:
        return memory
    if not delivered:
        return memory if told.generation == generation else structs.replace(memory, steps=())
    return structs.replace(
        memory,
        steps=course.after_telling(memory.steps),
        carried_out=told.generation if told.converged else memory.carried_out,
    )


def _cause(wanted: store.Wanted, memory: VmMemory) -> Cause | None:
    """The request that this round works for, until control knows that it was carried out.

    What happens to a VM later (a crash, a reboot of its host) was asked for by nobody.
    """
    fulfilled = memory.carried_out == wanted.generation and not memory.guest_since
    return None if fulfilled else wanted.cause


@contextmanager
def _working_for(cause: Cause | None) -> Iterator[None]:
    """The document says for whom, not the message that came last: rounds serve the newest."""
    if cause is None:
        yield
        return
    with requestid.bound(cause.request_id), logs.bound(action_id=cause.action_id):
        yield


def _pass_on(paths: VmPaths, memory: VmMemory) -> VmMemory:
    return structs.replace(memory, log_read=qemulog.pass_on(paths, memory.log_read))


def _bring(host: Host, spec: VmSpec, memory: VmMemory) -> tuple[VmReport, VmMemory]:
    spec, paths = networks.fitted(host, spec), host.paths.vm(spec.vm_id)
    seen, now = observe(host, spec, paths), time.time()
    todo = plan(spec, memory, seen, now)
    steps = Steps(host, spec, memory)
    failure = None
    for step in todo.steps:
        failure = steps.take(step)
        if failure:
            break
    if todo.steps:
        seen = observe(host, spec, paths)
    if seen.guest is Guest.SILENT and failure is None:
        failure = Failure("qmp_silent", _SILENT, retryable=True)
    if seen.guest is Guest.RUNNING:
        steps.listen(time.time())
    rest = plan(spec, steps.memory, seen, now)
    memory = steps.memory
    if seen.provisioned and not memory.provisioned:
        memory = structs.replace(memory, provisioned=True)
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
        nics=nic_reports(host, spec),
    )
    return report, memory


def _halted(spec: VmSpec, memory: VmMemory, seen: Observed) -> bool:
    return seen.guest is Guest.ABSENT and memory.halted == spec.generation


def _remove(host: Host, removal: VmRemoval, memory: VmMemory) -> tuple[VmReport, VmMemory]:
    failure = None
    steps = memory.steps
    for name, act in removal_steps(host, removal, host.paths.vm(removal.vm_id)):
        began = time.time()
        failure = attempt(f"remove {name}", act)
        took = max(time.time() - began, 0.0)
        steps = course.taken(steps, StepReport(name, began, took, failure=failure))
        if failure:
            break
    return gone(host, removal, failure), structs.replace(memory, steps=steps, guest_since=0.0)


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


def told(host: Host, vm_id: int) -> SeenVm | None:
    """Which report of the VM control has: None while there is none, or it may not have it."""
    paths = host.paths.vm(vm_id)
    last = store.memory(paths).told
    if last is None or not last.present or paths.unsent.exists():
        return None
    return SeenVm(vm_id, last.uuid, last.seq)


def _has_news(report: VmReport, told: VmReport | None, *, counters: bool) -> bool:
    """Whether there is anything that control does not know already."""
    if told is None or course.has_news(report.steps, told.steps):
        return True
    told = structs.replace(
        told, seq=report.seq, at=report.at, steps=report.steps, cause=report.cause
    )
    if counters:
        return report != told
    return _without_counters(report) != _without_counters(told)


def _without_counters(report: VmReport) -> VmReport:
    """A guest that forges frames must not make its host talk all the time."""
    return structs.replace(
        report, nics=tuple(structs.replace(nic, dropped={}) for nic in report.nics)
    )


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
