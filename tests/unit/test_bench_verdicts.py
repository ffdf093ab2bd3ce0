"""deploy.benchmarks.verdicts: what was promised against what was measured."""

from __future__ import annotations

import pytest

from deploy.benchmarks.statistics import summarise
from deploy.benchmarks.verdicts import Timing, Verdict, footprint, overhead, private, speed


def timing(process_up: float, userspace_up: float) -> Timing:
    return Timing(summarise([process_up]), summarise([userspace_up]))


def met(verdicts: list[Verdict]) -> dict[str, bool]:
    return {verdict.target: verdict.met for verdict in verdicts}


def test_a_fast_cloud_meets_every_ratio() -> None:
    assert met(speed(timing(0.2, 3.0), timing(0.1, 3.0), timing(0.5, 4.0))) == {
        "process up against virsh create": True,
        "process up against the shell loop": True,
        "userspace up against the shell loop": True,
    }


def test_each_ratio_is_missed_for_itself() -> None:
    assert met(speed(timing(0.4, 3.0), timing(0.2, 3.0), timing(0.5, 4.0))) == {
        "process up against virsh create": False,
        "process up against the shell loop": True,
        "userspace up against the shell loop": True,
    }
    assert met(speed(timing(0.29, 3.4), timing(0.09, 3.0), timing(0.5, 4.0))) == {
        "process up against virsh create": True,
        "process up against the shell loop": False,
        "userspace up against the shell loop": False,
    }


def test_exactly_the_limit_is_met() -> None:
    assert Verdict("target", 5.0, 5.0, "%").met
    assert not Verdict("target", 5.01, 5.0, "%").met


def test_the_largest_host_decides_about_memory() -> None:
    memory, _ = footprint({"h1": 80.0, "h2": 130.0}, {"web": 0.1})
    assert memory.value == 130.0
    assert not memory.met


def test_the_control_plane_is_judged_as_a_whole() -> None:
    _, processor = footprint({"h1": 80.0}, {"web": 2.0, "rabbitmq": 2.5})
    assert processor.value == pytest.approx(4.5)
    assert processor.met


@pytest.mark.parametrize(("seconds", "met"), [(0.103, True), (0.104, False)])
def test_following_a_request_may_cost_three_percent(seconds: float, met: bool) -> None:
    assert overhead(summarise([seconds]), summarise([0.1])).met is met


def test_a_private_network_keeps_most_of_its_tunnels_throughput_and_adds_little_latency() -> None:
    met = private(1500, kept=0.95, added_ms=0.05)
    missed = private(1500, kept=0.85, added_ms=0.2)
    assert [one.met for one in met] == [True, True]
    assert [one.met for one in missed] == [False, False]
