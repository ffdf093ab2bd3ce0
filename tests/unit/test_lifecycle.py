"""What facts mean: every combination has a status, every report ends what it should."""

from __future__ import annotations

from itertools import product

import pytest

from cloud.wire import Failure
from vms.lifecycle import SUCCESS, ActionGoal, Facts, Status, outcome_of, status_of
from vms.spec import Power, PowerGoal, VmReport

UUID = "00000000-0000-0000-0000-000000000001"


def facts(**values: object) -> Facts:
    known = {
        "goal": PowerGoal.RUNNING,
        "deleting": False,
        "provisioned": True,
        "power": Power.RUNNING,
        "failed": False,
        "host_silent": False,
    }
    return Facts(**{**known, **values})


def report(**values: object) -> VmReport:
    known = {
        "vm_id": 1,
        "uuid": UUID,
        "host_uuid": UUID,
        "generation": 2,
        "seq": 1,
        "present": True,
        "power": Power.RUNNING,
        "converged": True,
        "boot_id": "b",
        "at": 0.0,
    }
    return VmReport(**{**known, **values})


@pytest.mark.parametrize(
    ("known", "status"),
    [
        ({}, Status.RUNNING),
        ({"power": Power.OFF}, Status.STARTING),
        ({"power": Power.OFF, "failed": True}, Status.OFF),
        ({"goal": PowerGoal.OFF}, Status.STOPPING),
        ({"goal": PowerGoal.SHUTDOWN}, Status.STOPPING),
        ({"goal": PowerGoal.OFF, "power": Power.OFF}, Status.OFF),
        ({"goal": PowerGoal.SHUTDOWN, "power": Power.OFF}, Status.OFF),
        ({"provisioned": False, "power": Power.UNKNOWN}, Status.INITIALIZING),
        ({"deleting": True, "host_silent": True}, Status.DELETING),
    ],
)
def test_status_follows_from_the_facts(known: dict[str, object], status: Status) -> None:
    assert status_of(facts(**known)) is status


def test_silence_is_never_taken_for_off() -> None:
    for goal, power, silent in product(PowerGoal, Power, (True, False)):
        if silent or power is Power.UNKNOWN:
            assert status_of(facts(goal=goal, power=power, host_silent=silent)) is Status.UNKNOWN


def test_every_combination_of_facts_has_a_status() -> None:
    booleans = (True, False)
    for goal, power, *rest in product(PowerGoal, Power, booleans, booleans, booleans, booleans):
        deleting, provisioned, failed, silent = rest
        assert status_of(Facts(goal, deleting, provisioned, power, failed, silent)) in Status


@pytest.mark.parametrize("goal", list(ActionGoal))
def test_a_report_about_an_older_generation_ends_nothing(goal: ActionGoal) -> None:
    assert outcome_of(goal, 3, report(generation=2)) is None


@pytest.mark.parametrize(
    ("goal", "seen"),
    [
        (ActionGoal.APPLIED, {}),
        (ActionGoal.RUNNING, {}),
        (ActionGoal.RUNNING, {"power": Power.OFF, "guest_halted": True}),
        (ActionGoal.OFF, {"power": Power.OFF}),
        (ActionGoal.PRESSED, {"button_pressed": True, "converged": False}),
        (ActionGoal.PRESSED, {"power": Power.OFF}),
        (ActionGoal.REMOVED, {"present": False}),
    ],
)
def test_an_action_succeeds_when_its_goal_is_seen(
    goal: ActionGoal, seen: dict[str, object]
) -> None:
    assert outcome_of(goal, 2, report(**seen)) == SUCCESS


@pytest.mark.parametrize("goal", list(ActionGoal))
def test_an_unknown_power_state_never_ends_an_action_with_success(goal: ActionGoal) -> None:
    assert outcome_of(goal, 2, report(power=Power.UNKNOWN, converged=False)) is None


def test_a_final_failure_ends_an_action_and_a_passing_one_does_not() -> None:
    final = report(converged=False, failure=Failure("bad_image", "checksum differs", False))
    passing = report(converged=False, failure=Failure("no_space", "disk full", True))
    outcome = outcome_of(ActionGoal.RUNNING, 2, final)
    assert outcome is not None
    assert outcome.code == "bad_image"
    assert outcome_of(ActionGoal.RUNNING, 2, passing) is None


def test_a_later_request_supersedes_an_action() -> None:
    outcome = outcome_of(ActionGoal.OFF, 2, report(generation=3))
    assert outcome is not None
    assert outcome.code == "superseded"


def test_a_host_that_refuses_a_server_says_why() -> None:
    failure = Failure("server_id_taken", "another server has this id here", False)
    refused = report(present=False, converged=False, power=Power.OFF, failure=failure)
    outcome = outcome_of(ActionGoal.APPLIED, 2, refused)
    assert outcome is not None
    assert outcome.code == "server_id_taken"


def test_deletion_ends_every_other_action() -> None:
    outcome = outcome_of(ActionGoal.RUNNING, 2, report(generation=3, present=False))
    assert outcome is not None
    assert outcome.code == "server_deleted"
