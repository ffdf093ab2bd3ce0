"""The plan of a VM: a table of what it decides, and what holds for every possible input."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from msgspec.structs import replace as replace_memory

from networks.spec import Presence
from tests.documents import SPEC, a_spec
from vms.host.memory import VmMemory
from vms.host.plan import (
    PRESS_AGAIN_SECONDS,
    REBOOT_SECONDS,
    Guest,
    Observed,
    Plan,
    Step,
    plan,
)
from vms.spec import PowerGoal, VmSpec

NOW = 1_000_000.0
RUNNING = Observed(Guest.RUNNING, image=True, provisioned=True, links=Presence.ALL)
OFF = Observed(Guest.ABSENT, image=True, provisioned=True, links=Presence.NONE)
HALTED = Observed(Guest.HALTED, image=True, provisioned=True, links=Presence.ALL)
STALLED = Observed(Guest.STALLED, image=True, provisioned=True, links=Presence.ALL)
SILENT = Observed(Guest.SILENT, image=True, provisioned=True, links=Presence.ALL)
NEW = Observed(Guest.ABSENT, image=True, provisioned=False, links=Presence.NONE)
NO_IMAGE = Observed(Guest.ABSENT, image=False, provisioned=False, links=Presence.NONE)

KNOWN = VmMemory(settled=3)
GOAL = {goal: a_spec(power=goal) for goal in PowerGoal}
RUN, STOP, SHUT = GOAL[PowerGoal.RUNNING], GOAL[PowerGoal.OFF], GOAL[PowerGoal.SHUTDOWN]
RESET = a_spec(reset_serial=1)
REBOOT = a_spec(reboot_serial=1)
PRESSED = VmMemory(settled=2, pressed=3, pressed_since=NOW - 5, pressed_at=NOW - 1)
PRESSED_LONG_AGO = replace_memory(PRESSED, pressed_at=NOW - PRESS_AGAIN_SECONDS)


def steps(*names: Step, done: bool = True) -> Plan:
    return Plan(names, done)


CASES = {
    "running as it should": (RUN, KNOWN, RUNNING, steps()),
    "a NIC that came or went while the guest runs": (
        RUN,
        KNOWN,
        replace(RUNNING, plugged=False, links=Presence.PART),
        steps(Step.ADD_LINKS, Step.PLUG),
    ),
    "a new VM is made and started": (
        RUN,
        VmMemory(),
        NEW,
        steps(Step.PROVISION, Step.ADD_LINKS, Step.START),
    ),
    "a new VM may be wanted switched off": (STOP, VmMemory(), NEW, steps(Step.PROVISION)),
    "no start without the image": (
        RUN,
        VmMemory(),
        NO_IMAGE,
        steps(Step.WAIT_FOR_IMAGE, done=False),
    ),
    "a missing link is mended while the guest runs": (
        RUN,
        KNOWN,
        replace(RUNNING, links=Presence.PART),
        steps(Step.ADD_LINKS),
    ),
    "a crashed QEMU is started again": (RUN, KNOWN, OFF, steps(Step.ADD_LINKS, Step.START)),
    "off cuts the power": (STOP, KNOWN, RUNNING, steps(Step.QUIT, Step.REMOVE_LINKS)),
    "off ends a silent QEMU": (STOP, KNOWN, SILENT, steps(Step.QUIT, Step.REMOVE_LINKS)),
    "a silent QEMU that should run is left alone": (RUN, KNOWN, SILENT, steps(done=False)),
    "what is led to a silent QEMU follows the document all the same": (
        RUN,
        KNOWN,
        replace(SILENT, links=Presence.PART),
        steps(Step.ADD_LINKS, done=False),
    ),
    "so does what is led to a guest that is about to end": (
        SHUT,
        PRESSED,
        replace(RUNNING, links=Presence.PART),
        steps(Step.ADD_LINKS, done=False),
    ),
    "a guest that QEMU paused goes on": (RUN, KNOWN, STALLED, steps(Step.RESUME)),
    "a reset lets it go on as well": (RESET, KNOWN, STALLED, steps(Step.RESET)),
    "it hears its button only if it goes on": (
        SHUT,
        KNOWN,
        STALLED,
        steps(Step.RESUME, Step.PRESS, done=False),
    ),
    "off cuts the power of a paused guest": (
        STOP,
        KNOWN,
        STALLED,
        steps(Step.QUIT, Step.REMOVE_LINKS),
    ),
    "the button is pressed": (SHUT, KNOWN, RUNNING, steps(Step.PRESS, done=False)),
    "a pressed button is left to the guest": (SHUT, PRESSED, RUNNING, steps(done=False)),
    "a guest that did not react is pressed again": (
        SHUT,
        PRESSED_LONG_AGO,
        RUNNING,
        steps(Step.PRESS, done=False),
    ),
    "a clock that was set back does not stop the pressing": (
        SHUT,
        replace_memory(PRESSED, pressed_at=NOW + 1000),
        RUNNING,
        steps(Step.PRESS, done=False),
    ),
    "a guest that obeyed the button is put away": (
        SHUT,
        PRESSED,
        HALTED,
        steps(Step.QUIT, Step.REMOVE_LINKS),
    ),
    "a button never starts a VM": (SHUT, KNOWN, OFF, steps()),
    "a guest that switched itself off is noted and stays off": (
        RUN,
        KNOWN,
        HALTED,
        steps(Step.NOTE_HALT, Step.QUIT, Step.REMOVE_LINKS),
    ),
    "what was noted holds": (RUN, VmMemory(settled=3, halted=3), OFF, steps()),
    "a later wish to run starts it again": (
        RUN,
        VmMemory(settled=2, halted=2),
        OFF,
        steps(Step.ADD_LINKS, Step.START),
    ),
    "a guest that halted before the wish to run came is started afresh": (
        RUN,
        VmMemory(settled=2),
        HALTED,
        steps(Step.QUIT, Step.START),
    ),
    "a reset is done at once": (RESET, KNOWN, RUNNING, steps(Step.RESET)),
    "a reset is done once": (RESET, VmMemory(settled=3, reset_serial=1), RUNNING, steps()),
    "a reboot presses the button": (REBOOT, KNOWN, RUNNING, steps(Step.PRESS, done=False)),
    "a reboot that the guest ignores comes to an end": (
        REBOOT,
        VmMemory(settled=2, pressed=3, pressed_since=NOW - REBOOT_SECONDS, pressed_at=NOW - 1),
        RUNNING,
        steps(Step.GIVE_UP),
    ),
    "a reboot goes on when the guest is down": (REBOOT, PRESSED, HALTED, steps(Step.REVIVE)),
    "a start fulfils a reboot": (REBOOT, KNOWN, OFF, steps(Step.ADD_LINKS, Step.START)),
    "what is left of lost interfaces goes": (
        a_spec(nics=(), power=PowerGoal.OFF),
        KNOWN,
        replace(OFF, links=Presence.PART),
        steps(Step.REMOVE_LINKS),
    ),
    "a VM without interfaces needs no links": (
        a_spec(nics=()),
        KNOWN,
        replace(RUNNING, links=Presence.NONE),
        steps(),
    ),
}


@pytest.mark.parametrize(("spec", "memory", "seen", "expected"), CASES.values(), ids=list(CASES))
def test_the_plan_is(spec: VmSpec, memory: VmMemory, seen: Observed, expected: Plan) -> None:
    assert plan(spec, memory, seen, NOW) == expected


SPECS = [
    a_spec(power=goal, reset_serial=reset, reboot_serial=reboot, nics=nics)
    for goal, reset, reboot, nics in product(PowerGoal, (0, 1), (0, 1), ((), SPEC.nics))
]
MEMORIES = [
    VmMemory(settled=settled, halted=halted, pressed=pressed, pressed_at=at, reset_serial=reset)
    for settled, halted, pressed, at, reset in product(
        (0, 2, 3), (0, 3), (0, 3), (NOW - 1, NOW - 100), (0, 1)
    )
]
SIGHTS = [
    Observed(guest, image, provisioned, links)
    for guest, image, provisioned, links in product(Guest, (True, False), (True, False), Presence)
]


@pytest.mark.parametrize("seen", SIGHTS, ids=str)
def test_in_every_situation_the_plan_keeps_its_promises(seen: Observed) -> None:
    for spec, memory in product(SPECS, MEMORIES):
        made = plan(spec, memory, seen, NOW)
        case = f"{spec.power} {memory} {made}"
        lives = seen.guest in (Guest.RUNNING, Guest.STALLED, Guest.SILENT)
        if spec.power is not PowerGoal.RUNNING:
            assert not {Step.START, Step.REVIVE, Step.RESET} & {*made.steps}, case
        if spec.power is not PowerGoal.OFF:
            assert not (lives and Step.QUIT in made.steps), case
        if seen.guest is Guest.SILENT and spec.power is not PowerGoal.OFF:
            assert not {*made.steps} - {Step.ADD_LINKS}, case
            assert not made.done, case
        if Step.START in made.steps:
            assert seen.image, case
            assert made.steps[-1] is Step.START, case
            assert seen.guest is Guest.ABSENT or made.steps[0] is Step.QUIT, case
        if Step.PROVISION in made.steps:
            assert seen.image, case
            assert not seen.provisioned, case
        assert len(set(made.steps)) == len(made.steps), case


@pytest.mark.parametrize("seen", SIGHTS, ids=str)
def test_after_its_steps_nothing_is_left_to_do(seen: Observed) -> None:
    for spec, memory in product(SPECS, MEMORIES):
        first = plan(spec, memory, seen, NOW)
        if Step.WAIT_FOR_IMAGE in first.steps:
            continue
        after, remembered = seen, memory
        for step in first.steps:
            after, remembered = outcome(step, spec, after, remembered)
        second = plan(spec, remembered, after, NOW)
        assert second == Plan((), first.done), f"{spec.power} {memory} {first} then {second}"


def outcome(
    step: Step, spec: VmSpec, seen: Observed, memory: VmMemory
) -> tuple[Observed, VmMemory]:
    """The world after a step, as the step's implementation leaves it."""
    match step:
        case Step.PROVISION:
            return replace(seen, provisioned=True), memory
        case Step.ADD_LINKS:
            return replace(seen, links=Presence.ALL), memory
        case Step.REMOVE_LINKS:
            return replace(seen, links=Presence.NONE), memory
        case Step.QUIT:
            return replace(seen, guest=Guest.ABSENT), memory
        case Step.NOTE_HALT:
            return seen, replace_memory(memory, halted=spec.generation)
        case Step.PRESS:
            return seen, memory.button_pressed(spec, NOW)
        case Step.GIVE_UP:
            return seen, replace_memory(memory, reboot_serial=spec.reboot_serial)
        case Step.RESUME:
            return replace(seen, guest=Guest.RUNNING), memory
        case Step.START | Step.RESET | Step.REVIVE:
            return replace(seen, guest=Guest.RUNNING), memory.restarted(spec)
        case Step.WAIT_FOR_IMAGE:
            return seen, memory
