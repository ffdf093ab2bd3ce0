"""What must be done so that a VM becomes what its document says: one pure, total function.

The inputs are the document, what was remembered of the VM, and what is seen of it; the result is
an ordered list of steps, each of which is safe to repeat. `vms.host.converge` carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from networks.spec import Presence
from vms.host.memory import VmMemory
from vms.spec import Power, PowerGoal, VmSpec

# A guest that is still booting does not hear its power button: it is pressed again.
PRESS_AGAIN_SECONDS = 3.0
# A guest that has not ended by then ignores the button; control waits longer than that.
REBOOT_SECONDS = 60.0


class Guest(StrEnum):
    """What the VM's QEMU says. SILENT: it lives and does not answer; nothing follows from that.

    STALLED: QEMU paused it, as the host's disk had no room for what it wrote.
    Its links do not depend on it: what is led to them is the host's affair.
    """

    ABSENT = "absent"
    RUNNING = "running"
    STALLED = "stalled"
    HALTED = "halted"
    SILENT = "silent"

    @property
    def power(self) -> Power:
        return _POWER[self]


_POWER = {
    Guest.ABSENT: Power.OFF,
    Guest.RUNNING: Power.RUNNING,
    Guest.STALLED: Power.RUNNING,
    Guest.HALTED: Power.OFF,
    Guest.SILENT: Power.UNKNOWN,
}


@dataclass(frozen=True)
class Observed:
    """What was seen. `image`: all files of it; `provisioned`: disks and seed; `links`: its NICs.

    `plugged`: a guest that runs has just the NICs of its document.
    """

    guest: Guest
    image: bool
    provisioned: bool
    links: Presence
    plugged: bool = True


class Step(StrEnum):
    """One change. PRESS is the power button, REVIVE starts a halted guest in its old QEMU.

    RESUME lets a stalled guest go on. GIVE_UP ends a reboot that the guest does not take part in.
    """

    WAIT_FOR_IMAGE = "wait for image"
    PROVISION = "provision"
    ADD_LINKS = "add links"
    REMOVE_LINKS = "remove links"
    PLUG = "plug"
    START = "start"
    PRESS = "press"
    RESUME = "resume"
    RESET = "reset"
    REVIVE = "revive"
    GIVE_UP = "give up"
    NOTE_HALT = "note halt"
    QUIT = "quit"


@dataclass(frozen=True)
class Plan:
    """`done`: with these steps taken, the VM is what its document says."""

    steps: tuple[Step, ...]
    done: bool


def plan(spec: VmSpec, memory: VmMemory, seen: Observed, now: float) -> Plan:
    """The steps due at `now` (Unix seconds)."""
    match spec.power:
        case PowerGoal.RUNNING:
            return _run(spec, memory, seen, now)
        case PowerGoal.OFF:
            return _off(seen)
        case PowerGoal.SHUTDOWN:
            return _shut_down(spec, memory, seen, now)


def restart_wanted(spec: VmSpec, memory: VmMemory) -> bool:
    """Whether a reset or reboot was asked for since the guest last started."""
    return spec.reset_serial > memory.reset_serial or spec.reboot_serial > memory.reboot_serial


def _run(spec: VmSpec, memory: VmMemory, seen: Observed, now: float) -> Plan:
    match seen.guest:
        case Guest.ABSENT:
            if memory.halted == spec.generation:
                return _off(seen)
            return _start(spec, seen)
        case Guest.RUNNING | Guest.STALLED:
            links = (*_add_links(spec, seen), *_plug(seen))
            if spec.reset_serial > memory.reset_serial:
                return Plan((*links, Step.RESET), done=True)
            going_on = (*links, *_resume(seen))
            if spec.reboot_serial > memory.reboot_serial:
                return _reboot(spec, memory, going_on, now)
            return Plan(going_on, done=True)
        case Guest.HALTED:
            if restart_wanted(spec, memory):
                return Plan((*_add_links(spec, seen), Step.REVIVE), done=True)
            if memory.settled == spec.generation:
                after = _off(seen)
                return Plan((Step.NOTE_HALT, *after.steps), after.done)
            # It halted before this document came, which wants it to run.
            after = _start(spec, seen)
            return Plan((Step.QUIT, *after.steps), after.done)
        case Guest.SILENT:
            return Plan(_add_links(spec, seen), done=False)


def _reboot(spec: VmSpec, memory: VmMemory, first: tuple[Step, ...], now: float) -> Plan:
    """The guest ends by itself, then REVIVE has its turn."""
    if memory.pressed == spec.generation and now - memory.pressed_since >= REBOOT_SECONDS:
        return Plan((*first, Step.GIVE_UP), done=True)
    return Plan((*first, *_press(spec, memory, now)), done=False)


def _start(spec: VmSpec, seen: Observed) -> Plan:
    if not seen.image:
        return Plan((Step.WAIT_FOR_IMAGE,), done=False)
    return Plan((*_provision(seen), *_add_links(spec, seen), Step.START), done=True)


def _off(seen: Observed) -> Plan:
    end = () if seen.guest is Guest.ABSENT else (Step.QUIT,)
    # Also those of interfaces that the document has lost meanwhile.
    links = () if seen.links is Presence.NONE else (Step.REMOVE_LINKS,)
    if not seen.provisioned and not seen.image:
        return Plan((*end, *links, Step.WAIT_FOR_IMAGE), done=False)
    return Plan((*end, *links, *_provision(seen)), done=True)


def _add_links(spec: VmSpec, seen: Observed) -> tuple[Step, ...]:
    return () if seen.links is Presence.ALL or not spec.nics else (Step.ADD_LINKS,)


def _plug(seen: Observed) -> tuple[Step, ...]:
    """A guest keeps running while its private NICs come and go."""
    return () if seen.plugged else (Step.PLUG,)


def _resume(seen: Observed) -> tuple[Step, ...]:
    """A guest that is paused hears no button either."""
    return (Step.RESUME,) if seen.guest is Guest.STALLED else ()


def _shut_down(spec: VmSpec, memory: VmMemory, seen: Observed, now: float) -> Plan:
    match seen.guest:
        case Guest.ABSENT | Guest.HALTED:
            return _off(seen)
        case Guest.RUNNING | Guest.STALLED:
            first = (*_add_links(spec, seen), *_resume(seen))
            return Plan((*first, *_press(spec, memory, now)), done=False)
        case Guest.SILENT:
            return Plan(_add_links(spec, seen), done=False)


def _press(spec: VmSpec, memory: VmMemory, now: float) -> tuple[Step, ...]:
    just_pressed = 0 <= now - memory.pressed_at < PRESS_AGAIN_SECONDS
    if memory.pressed == spec.generation and just_pressed:
        return ()
    return (Step.PRESS,)


def _provision(seen: Observed) -> tuple[Step, ...]:
    return () if seen.provisioned else (Step.PROVISION,)
