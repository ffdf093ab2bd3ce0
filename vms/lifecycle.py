"""What a VM's facts mean: its status, and how an observation ends an Action.

Two pure functions, total over all inputs. Facts come from two sides: what the user wants
(`goal`, `generation`, `deleting`) and what the host saw (`power`, `observed_generation`, ...).
Silence is a fact of its own: a VM whose host does not speak is UNKNOWN, never off.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vms.spec import Power, PowerGoal, VmReport


class Status(StrEnum):
    """The contract's server states that this cloud produces."""

    INITIALIZING = "initializing"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    OFF = "off"
    DELETING = "deleting"
    UNKNOWN = "unknown"


class HeldBack(StrEnum):
    """Why a host is not told of a server, after the inventory was restored from a backup."""

    UNVERIFIED = "unverified"  # its host has not said yet what it holds
    DIFFERS = "differs"  # the host has it with other addresses, which are kept
    GONE = "gone"  # the host has nothing of it


class ActionGoal(StrEnum):
    """Which observation ends an Action with success."""

    APPLIED = "applied"  # the host has fully applied the generation
    RUNNING = "running"
    OFF = "off"
    PRESSED = "pressed"  # the power button was pressed, or the guest is off already
    REMOVED = "removed"


@dataclass(frozen=True)
class Facts:
    """All that decides a VM's status."""

    goal: PowerGoal
    deleting: bool
    provisioned: bool
    power: Power
    failed: bool
    host_silent: bool


@dataclass(frozen=True)
class Outcome:
    """The end of an Action; without a code it is a success."""

    code: str = ""
    message: str = ""


SUCCESS = Outcome()


def status_of(facts: Facts) -> Status:
    """The one status that the API, the admin and every filter show."""
    if facts.deleting:
        return Status.DELETING
    if not facts.provisioned:
        return Status.INITIALIZING
    if facts.host_silent or facts.power is Power.UNKNOWN:
        return Status.UNKNOWN
    running = facts.power is Power.RUNNING
    if facts.goal is PowerGoal.RUNNING:
        if running:
            return Status.RUNNING
        return Status.OFF if facts.failed else Status.STARTING
    return Status.STOPPING if running else Status.OFF


def outcome_of(goal: ActionGoal, generation: int, report: VmReport) -> Outcome | None:
    """How `report` ends an Action that waits for `goal` at `generation`; None: not yet.

    A host that already converged on a later document without meeting the goal ends the Action
    as superseded: the user asked for something else meanwhile.
    """
    if report.generation < generation:
        return None
    if not report.present:
        if goal is ActionGoal.REMOVED:
            return SUCCESS
        return _failure_of(report) or Outcome(
            "server_deleted", "the server was deleted before this was done"
        )
    if goal is ActionGoal.REMOVED:
        return _failure_of(report)
    if _met(goal, report):
        return SUCCESS
    if report.converged and report.generation > generation:
        return Outcome("superseded", "a later request asked for another state")
    return _failure_of(report)


def _met(goal: ActionGoal, report: VmReport) -> bool:
    off = report.converged and report.power is Power.OFF
    match goal:
        case ActionGoal.APPLIED:
            return report.converged
        case ActionGoal.RUNNING:
            # A guest that ran and then switched itself off did start.
            started = report.power is Power.RUNNING or report.guest_halted
            return report.converged and started
        case ActionGoal.OFF:
            return off
        case ActionGoal.PRESSED:
            return report.button_pressed or off
        case ActionGoal.REMOVED:
            return not report.present


def _failure_of(report: VmReport) -> Outcome | None:
    failure = report.failure
    if failure is None or failure.retryable:
        return None
    return Outcome(failure.code, failure.message)
