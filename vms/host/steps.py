"""Carries out the steps of a plan, one VM at a time. Each is safe to repeat after a crash."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import structlog
from msgspec import structs

from cloud import logs, telemetry
from cloud.errors import CumuletError
from cloud.wire import Failure, StepName, StepReport
from networks.host import addresses
from vms.host import (
    accelerator,
    cards,
    course,
    disks,
    imagecheck,
    images,
    qemu,
    qmp,
    room,
    seed,
    store,
    wiring,
)
from vms.host.command import command
from vms.host.host import Host
from vms.host.memory import CRASHES_IN_A_ROW, VmMemory, is_patient
from vms.host.observe import frames
from vms.host.paths import VmPaths
from vms.host.plan import REBOOT_SECONDS, Step
from vms.spec import VmSpec

log = structlog.get_logger(__name__)


class GuestStalled(CumuletError):
    """QEMU paused the guest at a write for which the host's disk had no room."""

    code: ClassVar[str] = "host_disk_full"
    retryable: ClassVar[bool] = True


class KeepsCrashing(CumuletError):
    """QEMU ended soon after each of its last starts."""

    code: ClassVar[str] = "qemu_keeps_crashing"
    retryable: ClassVar[bool] = True


class GuestIgnoresButton(CumuletError):
    """The guest does not react to its power button."""

    code: ClassVar[str] = "guest_ignores_button"


def attempt(step: str, act: Callable[[], None]) -> Failure | None:
    """Do it, and say in the log how it went; what a host may fail at is an answer."""
    began = time.monotonic()
    failure = None
    with logs.bound(step=step), telemetry.span(step) as span:
        log.info("step begins")  # so that a crash in it can be seen
        try:
            act()
        except images.ImageUnusable as error:
            failure = structs.replace(error.failure, step=step)
        except CumuletError as error:
            failure = Failure(error.code, error.message, error.retryable, step)
        except OSError as error:
            failure = room.failure(step, error)
        duration = round(time.monotonic() - began, 4)
        if failure:
            telemetry.fail(span, failure.code)
            log.warning("step failed", code=failure.code, reason=failure.message, duration=duration)
        else:
            log.info("step ended", duration=duration)
    return failure


class Steps:
    """One VM while it is being changed; `memory` is what will have to be remembered of it."""

    def __init__(self, host: Host, spec: VmSpec, memory: VmMemory) -> None:
        self._host = host
        self._spec = spec
        self._paths: VmPaths = host.paths.vm(spec.vm_id)
        self._wiring = wiring.of(host)
        self.memory = memory

    def take(self, step: Step) -> Failure | None:
        """Take one step, and note in memory how it went; what was done before stays done."""
        name, began = course.name_of(step), time.time()
        failure = attempt(str(step), partial(self._take, step))
        if name:
            report = StepReport(name, began, max(time.time() - began, 0.0), failure=failure)
            self.memory = structs.replace(
                self.memory, steps=course.taken(self.memory.steps, report)
            )
        return failure

    def listen(self, now: float) -> None:
        """Note the guest's first sign of life, if it is awaited and came."""
        memory = self.memory
        if not memory.guest_since:
            return
        heard = frames(self._host, self._spec) > memory.guest_frames
        if heard:
            self._note_guest(memory.guest_since, now)
        if heard or not is_patient(memory.guest_since, now):
            self.memory = structs.replace(self.memory, guest_since=0.0)

    def _take(self, step: Step) -> None:
        match step:
            case Step.WAIT_FOR_IMAGE:
                self._want_image()
            case Step.PROVISION:
                self._provision()
            case Step.ADD_LINKS:
                self._wiring.ensure(self._spec)
            case Step.REMOVE_LINKS:
                self._wiring.remove(self._paths, addresses.public(self._spec.nics))
            case Step.PLUG:
                cards.plug(self._host, self._spec, self._paths)
            case Step.START:
                self._start()
            case Step.PRESS:
                self._press()
            case Step.RESUME:
                self._resume()
            case Step.RESET:
                self._restart()
            case Step.REVIVE:
                self._note_obedience()
                self._restart()
            case Step.GIVE_UP:
                self._give_up()
            case Step.NOTE_HALT:
                self._remember(structs.replace(self.memory, halted=self._spec.generation))
            case Step.QUIT:
                self._note_obedience()
                qemu.stop(self._spec.uuid, self._paths)
                self.memory = structs.replace(self.memory, started_at=0.0, guest_since=0.0)

    def _want_image(self) -> None:
        image = self._spec.image
        problem = images.problem(self._host.paths, image)
        if problem is None or problem.retryable:
            images.want(self._host, image)
        if problem:
            raise images.ImageUnusable(problem)

    def _provision(self) -> None:
        # The seed is made after them, so it proves them where memory is lost.
        if self.memory.had_disks(self._spec) or self._paths.seed.exists():
            disks.require_disks(self._spec, self._paths)
        base = self._host.paths.image(self._spec.image.disk.sha256)
        disks.ensure_disks(self._host, self._spec, self._paths, imagecheck.virtual_bytes(base))
        seed.ensure_seed(self._host, self._spec, self._paths)

    def _start(self) -> None:
        now = time.time()
        memory = self.memory.absent(self._spec, self._host.boot_id, now)
        if memory.pausing(now):
            self._remember(memory)
            raise KeepsCrashing(
                f"QEMU ended soon after each of its last {CRASHES_IN_A_ROW} starts: see"
                f" {self._paths.log}; it is tried again once a minute"
            )
        self._remember(memory.starting(self._spec, self._host.boot_id, now))
        seed.ensure_seed(self._host, self._spec, self._paths)
        kind = accelerator.chosen(self._host).kind
        argv = command(self._spec, self._paths, kind, self._wiring.netdevs)
        qemu.start(self._host, self._spec.uuid, self._paths, argv)
        self._await_guest()

    def _resume(self) -> None:
        """Fails in any case: only a later look can tell whether its write found room this time."""
        qmp.ask(self._paths.qmp, "cont")
        raise GuestStalled(
            "the host's disk is full, so the guest was paused at a write: make room on it, or"
            " delete servers of the host; the guest goes on by itself as soon as there is some"
        )

    def _restart(self) -> None:
        # QEMU pauses a guest whose disk was full, and one that halted: both would stay paused.
        qmp.ask(self._paths.qmp, "system_reset", "cont")
        self.memory = self.memory.restarted(self._spec)
        self._await_guest()

    def _await_guest(self) -> None:
        if self._spec.nics:
            sent = frames(self._host, self._spec)
            self.memory = self.memory.awaiting_guest(self._spec, time.time(), sent)

    def _press(self) -> None:
        qmp.ask(self._paths.qmp, "system_powerdown")
        self.memory = self.memory.button_pressed(self._spec, time.time())

    def _give_up(self) -> None:
        self.memory = structs.replace(self.memory, reboot_serial=self._spec.reboot_serial)
        ignored = GuestIgnoresButton(
            f"the guest did not end within {REBOOT_SECONDS:g} s of its power button being pressed,"
            " so it was not rebooted: log in and look, or reset the server"
        )
        failure = Failure(ignored.code, ignored.message, ignored.retryable, str(Step.GIVE_UP))
        self._note_guest(self.memory.pressed_since, time.time(), failure)
        raise ignored

    def _note_obedience(self) -> None:
        """The guest ended after its power button was pressed: that was its own part."""
        if self.memory.pressed == self._spec.generation:
            self._note_guest(self.memory.pressed_since, time.time())

    def _note_guest(self, since: float, now: float, failure: Failure | None = None) -> None:
        step = StepReport(StepName.GUEST, since, max(now - since, 0.0), failure=failure)
        log.info("guest", step=step.name, duration=round(step.seconds, 3), failed=bool(failure))
        self._note(step)

    def _note(self, step: StepReport) -> None:
        self.memory = structs.replace(self.memory, steps=course.taken(self.memory.steps, step))

    def _remember(self, memory: VmMemory) -> None:
        """On disk before the next step, because the next step cannot be told from a crash."""
        self.memory = memory
        store.remember(self._paths, memory)
